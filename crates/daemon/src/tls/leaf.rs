//! What a certificate says of whoever holds it.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::FromDer as _, x509::X509Name};

/// Longer names are of nobody: what names callers is kept, compared and written down.
const LONGEST_NAME: usize = 256;

/// The parts that are used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    /// The last moment at which it is good, in seconds since 1970.
    pub(super) not_after: i64,
    /// The first DNS name or URI of its alternative names; where it has none, its common name.
    pub(super) name: Option<Arc<str>>,
}

impl Leaf {
    /// `None` where it is not a certificate of X.509.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
        let alternatives = parsed.subject_alternative_name().ok()?;
        let alternative = alternatives.and_then(|names| {
            names.value.general_names.iter().find_map(|name| match name {
                GeneralName::DNSName(name) | GeneralName::URI(name) => plain(name),
                _ => None,
            })
        });
        Some(Self {
            not_after: parsed.validity().not_after.timestamp(),
            name: alternative.or_else(|| common_name(parsed.subject())),
        })
    }
}

fn common_name(subject: &X509Name<'_>) -> Option<Arc<str>> {
    let name = subject.iter_common_name().next()?;
    plain(name.as_str().ok()?)
}

/// A name that can stand in a line of a file.
fn plain(name: &str) -> Option<Arc<str>> {
    let usable = (1..=LONGEST_NAME).contains(&name.len()) && !name.contains(char::is_control);
    usable.then(|| name.into())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    fn named(common_name: &str, alternatives: Vec<SanType>) -> Option<Arc<str>> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = alternatives;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Leaf::of(certificate.der()).expect("it is one").name
    }

    #[test]
    fn a_holder_is_known_by_its_first_dns_name_or_uri_and_else_by_its_common_name() {
        let dns = |name: &str| SanType::DnsName(name.try_into().expect("ascii"));
        let uri = |name: &str| SanType::URI(name.try_into().expect("ascii"));
        let address = SanType::IpAddress("127.0.0.1".parse().expect("an address"));
        let both = vec![address.clone(), uri("spiffe://house/speed"), dns("speed")];
        assert_eq!(named("cn", both).as_deref(), Some("spiffe://house/speed"));
        assert_eq!(named("cn", vec![dns("speed")]).as_deref(), Some("speed"));
        assert_eq!(named("cn", vec![address]).as_deref(), Some("cn"));
        assert_eq!(named("two\nlines", Vec::new()), None);
        assert_eq!(named(&"x".repeat(257), Vec::new()), None);
    }

    #[test]
    fn what_is_no_certificate_says_nothing() {
        assert_eq!(Leaf::of(&CertificateDer::from(vec![0x30, 3, 1, 2, 3])), None);
    }
}
