//! Signatures: `jsonwebtoken` checks them by `ring`, as TLS does, and only those of the three algorithms that are taken here. There is no other to fall back to:
//! neither one with a shared secret, nor none.

use std::sync::Once;

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result, new_error},
    signature::{self, Verifier},
};
use ring::signature::{
    ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA384, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes `jsonwebtoken` use it. To be called before a token is looked at; more often does no harm.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if PROVIDER.install_default().is_err() {
            tracing::error!("another implementation of signatures was installed before ours");
        }
    });
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the library calls it by this signature"
)]
fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>> {
    Err(new_error(ErrorKind::UnsupportedAlgorithm))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the library calls it by this signature"
)]
fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>> {
    let unusable = || new_error(ErrorKind::InvalidKeyFormat);
    if key.family() != algorithm.family() {
        return Err(unusable());
    }
    let with = |by: &'static dyn VerificationAlgorithm| {
        let bytes = key.try_get_as_bytes()?.to_vec();
        Ok::<_, jsonwebtoken::errors::Error>(Public::Bytes(UnparsedPublicKey::new(by, bytes)))
    };
    let public = match algorithm {
        Algorithm::RS384 => match key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => Public::Rsa(RsaPublicKeyComponents {
                n: n.clone(),
                e: e.clone(),
            }),
            DecodingKeyKind::SecretOrDer(_) => return Err(unusable()),
        },
        Algorithm::ES384 => with(&ECDSA_P384_SHA384_FIXED)?,
        Algorithm::EdDSA => with(&ED25519)?,
        _ => return Err(new_error(ErrorKind::UnsupportedAlgorithm)),
    };
    Ok(Box::new(OfRing {
        algorithm: *algorithm,
        public,
    }))
}

enum Public {
    /// Of 2,048 to 8,192 bits: ring refuses others.
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    Bytes(UnparsedPublicKey<Vec<u8>>),
}

struct OfRing {
    algorithm: Algorithm,
    public: Public,
}

impl Verifier<Vec<u8>> for OfRing {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> std::result::Result<(), signature::Error> {
        let verified = match &self.public {
            Public::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA384, message, signature),
            Public::Bytes(key) => key.verify(message, signature),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for OfRing {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
