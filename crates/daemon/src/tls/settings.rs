//! The sections of the configuration, and what is wrong with them.

use std::path::{Path, PathBuf};

use rustls::pki_types::ServerName;
use serde::Deserialize;

use super::{
    client,
    material::{Contents, File, TlsError},
    server::{self, Protocol},
};
use crate::config::Demands;

/// How often files are looked at where nothing else is said, in seconds.
pub const RELOAD_SECONDS: u64 = 5;

/// How a listener is secured: `[daemon.grpc_tls]`, `[daemon.admin_tls]`, `[http.tls]`, `[webhook.tls]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerTls {
    /// File of the certificate and of those between it and its authority, in PEM; empty: no TLS.
    pub certificate: PathBuf,
    /// File of its key, in PEM.
    pub key: PathBuf,
    /// File of the authorities that sign clients' certificates, in PEM.
    pub client_ca: PathBuf,
    /// Whether clients must show one.
    pub client_certificates: ClientCertificates,
    /// Names of those that are let in; empty: all whose certificate such an authority has signed.
    #[serde(deserialize_with = "crate::config::words")]
    pub allowed_clients: Vec<String>,
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// Whoever has none is not let in.
    Required,
    /// Whoever shows one must show a good one.
    Optional,
    /// Nobody is asked.
    #[default]
    Off,
}

/// How calls to others are secured: `[services.tls]`, `[batch.tls]`, `[hapi.tls]`, `[redis.tls]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTls {
    /// File of the authorities that sign the others' certificates, in PEM; empty: those that the operating system knows.
    pub ca: PathBuf,
    /// File of the certificate that is shown to them, in PEM; empty: none.
    pub certificate: PathBuf,
    /// File of its key, in PEM.
    pub key: PathBuf,
}

/// The files of a [`ClientTls`], in PEM.
pub struct ClientPem {
    /// Authorities; `None`: those that the operating system knows.
    pub ca: Option<Vec<u8>>,
    /// Certificate and key.
    pub pair: Option<(Vec<u8>, Vec<u8>)>,
}

/// Whether a certificate can be good for this name: a DNS name or an address.
pub fn is_server_name(name: &str) -> bool {
    ServerName::try_from(name).is_ok()
}

impl ListenerTls {
    /// Whether there is TLS.
    pub fn is_on(&self) -> bool {
        is_set(&self.certificate)
    }

    /// Whether only those are let in who prove who they are.
    pub fn requires_certificates(&self) -> bool {
        self.is_on() && self.client_certificates == ClientCertificates::Required
    }

    /// All that is wrong; the files are read. `section`: what its keys stand in.
    pub fn check(&self, section: &str, demands: &mut Demands) {
        let asked = self.client_certificates != ClientCertificates::Off;
        let on = self.is_on();
        let rules = [
            (
                on == is_set(&self.key),
                "key: must be set where certificate is, and nowhere else",
            ),
            (
                on || !asked && !is_set(&self.client_ca) && self.allowed_clients.is_empty(),
                "certificate: must be set: without TLS there are no certificates of clients",
            ),
            (
                asked == is_set(&self.client_ca),
                "client_ca: must be set where client_certificates is \"required\" or \"optional\", and nowhere else",
            ),
            (
                asked || self.allowed_clients.is_empty(),
                "allowed_clients: must be [] where client_certificates is \"off\": nobody has a name",
            ),
        ];
        let good = rules.iter().all(|(holds, _)| *holds);
        for (holds, rule) in rules {
            demands.demand(holds, format!("{section}.{rule}"));
        }
        if on && good {
            let made = Contents::read(&self.files()).and_then(|c| server::config(self, Protocol::Http1, &c));
            told(section, made.map(drop), demands);
        }
    }

    pub(super) fn files(&self) -> Vec<File> {
        let files = [
            ("certificate", &self.certificate),
            ("key", &self.key),
            ("client_ca", &self.client_ca),
        ];
        set(&files)
    }
}

impl ClientTls {
    /// Whether anything is set: then nothing is sent in the open.
    pub fn is_set(&self) -> bool {
        is_set(&self.ca) || is_set(&self.certificate) || is_set(&self.key)
    }

    /// All that is wrong; the files are read. `urls`: those that it is for, with their keys and the scheme that has TLS, such as `https://`.
    pub fn check(&self, section: &str, urls: &[(&str, &str)], scheme: &str, demands: &mut Demands) {
        let whole = is_set(&self.certificate) == is_set(&self.key);
        demands.demand(
            whole,
            format!("{section}.key: must be set where certificate is, and nowhere else"),
        );
        if self.is_set() && whole {
            let made = Contents::read(&self.files()).and_then(|c| client::config(self, &[], &c));
            told(section, made.map(drop), demands);
        }
        for (key, url) in urls {
            demands.demand(
                !self.is_set() || url.is_empty() || url.starts_with(scheme),
                format!("{key}: must begin with {scheme}, since {section} is set"),
            );
        }
    }

    /// What the files hold, for a library that reads them itself.
    pub fn pem(&self) -> Result<ClientPem, TlsError> {
        let mut contents = Contents::read(&self.files())?;
        let ca = self.has_ca().then(|| contents.take("ca"));
        let certificate = self.has_certificate();
        let pair = certificate.then(|| (contents.take("certificate"), contents.take("key")));
        Ok(ClientPem { ca, pair })
    }

    /// Whether there is a certificate to show.
    pub(super) fn has_certificate(&self) -> bool {
        is_set(&self.certificate)
    }

    /// Whether authorities are named.
    pub(super) fn has_ca(&self) -> bool {
        is_set(&self.ca)
    }

    pub(super) fn files(&self) -> Vec<File> {
        set(&[
            ("ca", &self.ca),
            ("certificate", &self.certificate),
            ("key", &self.key),
        ])
    }
}

fn told(section: &str, made: Result<(), TlsError>, demands: &mut Demands) {
    if let Err(error) = made {
        demands.demand(false, format!("{section}.{error}"));
    }
}

fn is_set(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}

fn set(files: &[(&'static str, &PathBuf)]) -> Vec<File> {
    let set = files.iter().filter(|(_, path)| is_set(path));
    set.map(|(field, path)| File {
        field,
        path: (*path).clone(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(settings: &ListenerTls) -> String {
        let mut demands = Demands::default();
        settings.check("http.tls", &mut demands);
        demands.result().err().unwrap_or_default().join("\n")
    }

    #[test]
    fn what_does_not_fit_together_is_said_by_its_keys() {
        assert_eq!(wrong(&ListenerTls::default()), "");
        let half = ListenerTls {
            certificate: "/nowhere".into(),
            ..ListenerTls::default()
        };
        assert!(wrong(&half).contains("http.tls.key: "));
        let whole = ListenerTls {
            key: "/nowhere".into(),
            ..half
        };
        assert_eq!(
            wrong(&whole),
            "http.tls.certificate: cannot be read: entity not found"
        );
        let nobody_named = ListenerTls {
            allowed_clients: vec!["a".into()],
            ..whole.clone()
        };
        assert!(wrong(&nobody_named).contains("http.tls.allowed_clients: "));
        let nobody_signs = ListenerTls {
            client_certificates: ClientCertificates::Required,
            ..whole
        };
        assert!(wrong(&nobody_signs).contains("http.tls.client_ca: "));
        let without_tls = ListenerTls {
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            client_ca: "/nowhere".into(),
            ..nobody_signs
        };
        assert!(wrong(&without_tls).contains("http.tls.certificate: must be set"));
        assert!(!without_tls.requires_certificates());
    }

    #[test]
    fn what_has_authorities_is_not_sent_in_the_open() {
        let wrong = |settings: &ClientTls, url: &str| {
            let mut demands = Demands::default();
            settings.check("batch.tls", &[("batch.url", url)], "https://", &mut demands);
            demands.result().err().unwrap_or_default().join("\n")
        };
        let off = ClientTls::default();
        assert_eq!(wrong(&off, "http://h") + &wrong(&off, "https://h"), "");
        let on = ClientTls {
            ca: "/nowhere".into(),
            ..off
        };
        let said = wrong(&on, "http://h");
        for part in [
            "batch.tls.ca: cannot be read",
            "batch.url: must begin with https://",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!wrong(&on, "https://h").contains("batch.url"));
    }
}
