//! Files in PEM become certificates, keys and authorities.

use std::{fmt, io::ErrorKind, path::PathBuf, sync::Arc};

use rustls::{
    Error, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};
use sha2::{Digest as _, Sha256};

use super::{leaf::Leaf, provider};
use crate::{Clock as _, ConfigError, SystemClock};

/// A file of a section: the key that names it, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) field: &'static str,
    pub(super) path: PathBuf,
}

/// What the files held when they were looked at.
pub(super) struct Contents(Vec<(&'static str, Vec<u8>)>);

/// What cannot be used. Neither a path nor anything of what a file holds is shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {fault}")]
pub struct TlsError {
    /// The key of the section.
    pub field: &'static str,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It is not there, or not ours to read.
    #[error("cannot be read: {0}")]
    Unreadable(ErrorKind),
    /// It is not of the form.
    #[error("must be PEM: what stands between its lines of BEGIN and END cannot be read")]
    NotPem,
    /// There is none in it.
    #[error("must hold a certificate in PEM, behind BEGIN CERTIFICATE")]
    NoCertificate,
    /// There is none in it, or one with a passphrase.
    #[error("must hold a private key in PEM, without a passphrase: PKCS#8, PKCS#1 or SEC1")]
    NoKey,
    /// A certificate that is none.
    #[error("holds a certificate that cannot be read")]
    BadCertificate,
    /// A key of another kind than RSA, ECDSA (P-256, P-384) and Ed25519.
    #[error(
        "holds a key that cannot be used: RSA of 2048 bits or more, ECDSA over P-256 or P-384, and Ed25519 can"
    )]
    BadKey,
    /// The key of another certificate.
    #[error("must be the key of the certificate: it belongs to another one")]
    Mismatch,
    /// Nobody would take it.
    #[error("has expired: renew it")]
    Expired,
    /// The operating system has no authorities.
    #[error("must be set: this system has no certificates of authorities of its own")]
    NoSystemRoots,
    /// What is made of the files cannot be used.
    #[error("cannot be used as it is set")]
    Unusable,
}

impl TlsError {
    pub(super) fn new(field: &'static str, fault: Fault) -> Self {
        Self { field, fault }
    }

    /// What was made of the files cannot be used, for a reason that is not one of a single file.
    pub fn unusable(field: &'static str) -> Self {
        Self::new(field, Fault::Unusable)
    }

    /// As an error of the configuration: in this section.
    pub(super) fn of(self, section: &str) -> ConfigError {
        ConfigError::Invalid(vec![format!("{section}.{self}")])
    }
}

impl Contents {
    /// Reads all, or says of the first that cannot be read.
    pub(super) fn read(files: &[File]) -> Result<Self, TlsError> {
        let read = |file: &File| match std::fs::read(&file.path) {
            Ok(bytes) => Ok((file.field, bytes)),
            Err(error) => Err(TlsError::new(file.field, Fault::Unreadable(error.kind()))),
        };
        files.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Tells one state of the files from another, without keeping keys about.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for (field, bytes) in &self.0 {
            digest.update(field);
            digest.update(bytes.len().to_be_bytes());
            digest.update(bytes);
        }
        digest.finalize().into()
    }

    /// The certificate with what is between it and its authority, and its key; fitting and not expired.
    pub(super) fn pair(&self) -> Result<(Arc<CertifiedKey>, Leaf), TlsError> {
        let chain = self.certificates("certificate")?;
        let mut leaf = None;
        for certificate in &chain {
            let read = Leaf::of(certificate);
            let read = read.ok_or(TlsError::new("certificate", Fault::BadCertificate))?;
            leaf.get_or_insert(read);
        }
        let leaf = leaf.ok_or(TlsError::new("certificate", Fault::NoCertificate))?;
        if leaf.not_after < SystemClock.now().timestamp() {
            return Err(TlsError::new("certificate", Fault::Expired));
        }
        let key = PrivateKeyDer::from_pem_slice(self.of("key"));
        let key = key.map_err(|_| TlsError::new("key", Fault::NoKey))?;
        let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            Error::InconsistentKeys(_) => TlsError::new("key", Fault::Mismatch),
            Error::InvalidCertificate(_) => TlsError::new("certificate", Fault::BadCertificate),
            _ => TlsError::new("key", Fault::BadKey),
        })?;
        Ok((Arc::new(pair), leaf))
    }

    /// Authorities: one or, while one takes the place of another, several.
    pub(super) fn roots(&self, field: &'static str) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates(field)? {
            let added = roots.add(certificate);
            added.map_err(|_| TlsError::new(field, Fault::BadCertificate))?;
        }
        Ok(roots)
    }

    fn certificates(&self, field: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(self.of(field)).collect();
        let read = read.map_err(|_| TlsError::new(field, Fault::NotPem))?;
        if read.is_empty() {
            return Err(TlsError::new(field, Fault::NoCertificate));
        }
        Ok(read)
    }

    /// What a file holds; it is not there any more.
    pub(super) fn take(&mut self, field: &str) -> Vec<u8> {
        let found = self.0.iter_mut().find(|(known, _)| *known == field);
        found.map_or_else(Vec::new, |(_, bytes)| std::mem::take(bytes))
    }

    fn of(&self, field: &str) -> &[u8] {
        let found = self.0.iter().find(|(known, _)| *known == field);
        found.map_or(&[], |(_, bytes)| bytes)
    }
}

/// What it holds is not shown: it may be a key.
impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(field, _)| field))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(until: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec!["here".to_owned()]).expect("a name");
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn pair(certificate: &str, key: &str) -> Result<Leaf, TlsError> {
        let contents = Contents(vec![("certificate", certificate.into()), ("key", key.into())]);
        contents.pair().map(|(_, leaf)| leaf)
    }

    #[test]
    fn a_pair_is_a_certificate_and_its_key() {
        let (certificate, key) = made(4000);
        let leaf = pair(&certificate, &key).expect("it fits");
        assert_eq!(leaf.name.as_deref(), Some("here"));
        assert_eq!(leaf.not_after, 64_060_588_800);
        // What people write about it is of no matter.
        pair(&format!("# ours\n{certificate}"), &format!("\n{key}\n")).expect("it fits");
    }

    #[test]
    fn what_is_wrong_with_a_pair_is_said_by_its_key_and_without_what_it_holds() {
        let (certificate, key) = made(4000);
        let (another, _) = made(4000);
        let (expired, expired_key) = made(2001);
        let cut = &certificate[..certificate.len() / 2];
        let holds_nothing = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        let not_a_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (certificate, key, field, fault) in [
            ("", key.as_str(), "certificate", Fault::NoCertificate),
            (&key, &key, "certificate", Fault::NoCertificate),
            (cut, &key, "certificate", Fault::NotPem),
            (holds_nothing, &key, "certificate", Fault::BadCertificate),
            (&certificate, "", "key", Fault::NoKey),
            (&certificate, &certificate, "key", Fault::NoKey),
            (&certificate, &locked, "key", Fault::NoKey),
            (&certificate, not_a_key, "key", Fault::BadKey),
            (&another, &key, "key", Fault::Mismatch),
            (&expired, &expired_key, "certificate", Fault::Expired),
        ] {
            assert_eq!(pair(certificate, key), Err(TlsError::new(field, fault)));
        }
    }

    #[test]
    fn authorities_are_one_or_several() {
        let ((one, key), (two, _)) = (made(4000), made(4000));
        let roots = |text: String| Contents(vec![("ca", text.into())]).roots("ca");
        assert_eq!(roots(one.clone()).expect("an authority").len(), 1);
        assert_eq!(roots(format!("{one}\n{two}")).expect("two").len(), 2);
        for none in [String::new(), key] {
            assert_eq!(
                roots(none).expect_err("there is none").fault,
                Fault::NoCertificate
            );
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_told_by_its_key() {
        let files = [File {
            field: "ca",
            path: "/nowhere/ca.pem".into(),
        }];
        let error = Contents::read(&files).expect_err("it is not there").to_string();
        assert_eq!(error, "ca: cannot be read: entity not found");
    }
}
