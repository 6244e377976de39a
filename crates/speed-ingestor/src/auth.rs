//! The shared secret that HAPI sends in a header of each delivery, compared in constant time; and how it is changed without a refused delivery.
//!
//! A secret is changed in three steps, each of which may take as long as it likes: the new one is accepted beside the old one; HAPI is told to send it; the
//! old one is no longer accepted. With a file (`webhook.secret_file`) no restart is needed: its first line is what HAPI is made to send, every
//! line is accepted.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use axum::http::{HeaderMap, HeaderName, header};
use daemon::{Secret, Shutdown, mounted};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

/// What a delivery must show. Cheap to clone.
#[derive(Clone)]
pub struct SharedSecret {
    header: HeaderName,
    secrets: Arc<RwLock<Secrets>>,
    changes: watch::Sender<u64>,
}

struct Secrets {
    /// SHA-256 of the whole header values that are good: equally long, whatever the secret's length.
    accepted: Vec<[u8; 32]>,
    /// The value that our Subscription makes HAPI send.
    current: Secret,
}

/// All that a file of secrets held when it was read. (Shows nothing of it.)
pub struct ReadSecrets(Vec<u8>);

/// Why a file of secrets cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// It cannot be read.
    #[error("cannot be read: {}", .0.kind())]
    Unreadable(#[from] std::io::Error),
    /// It holds nothing, or what cannot stand in a header.
    #[error("must hold one secret a line: visible ASCII without spaces")]
    Unusable,
}

impl SharedSecret {
    /// `current` is what HAPI is made to send; `others` are good too. In `Authorization` a secret stands behind `Bearer `, in any other header alone.
    pub fn new(header: HeaderName, current: &Secret, others: &[Secret]) -> Self {
        let secrets = Arc::new(RwLock::new(Secrets::new(&header, current, others)));
        Self {
            header,
            secrets,
            changes: watch::Sender::new(0),
        }
    }

    /// Whether these headers show a good secret.
    pub fn is_shown(&self, headers: &HeaderMap) -> bool {
        let Some(shown) = headers.get(&self.header) else {
            return false;
        };
        let shown: [u8; 32] = Sha256::digest(shown.as_bytes()).into();
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        let good = secrets
            .accepted
            .iter()
            .fold(subtle::Choice::from(0), |good, accepted| {
                good | accepted.ct_eq(&shown)
            });
        good.into()
    }

    /// Name of the header.
    pub fn header(&self) -> &HeaderName {
        &self.header
    }

    /// The header line that HAPI is to send, `Name: value`.
    pub fn header_line(&self) -> Secret {
        let name = if self.header == header::AUTHORIZATION {
            "Authorization"
        } else {
            self.header.as_str()
        };
        let secrets = self.secrets.read().unwrap_or_else(PoisonError::into_inner);
        Secret::new(format!("{name}: {}", secrets.current.expose()))
    }

    /// Wakes when HAPI is to send another one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Goes over to other secrets.
    pub fn change(&self, current: &Secret, others: &[Secret]) {
        let changed = {
            let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
            let before = std::mem::replace(&mut *secrets, Secrets::new(&self.header, current, others));
            before.current != secrets.current
        };
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// Keeps to what a file says, until the stop. While it cannot be used, what it said before holds, at first what was read at the start.
    pub async fn follow(self, file: PathBuf, ReadSecrets(read): ReadSecrets, shutdown: Shutdown) {
        let take = |bytes: &[u8]| {
            let secrets = secrets_in(bytes)?;
            self.change(&secrets[0], &secrets[1..]);
            Ok::<_, SecretFileError>(())
        };
        mounted::follow("webhook.secret_file", file, read, take, shutdown).await;
    }
}

/// The secrets of a file, one at least, and all that was read of it.
pub fn secrets_of(file: &Path) -> Result<(Vec<Secret>, ReadSecrets), SecretFileError> {
    let read = mounted::read(file)?;
    Ok((secrets_in(&read)?, ReadSecrets(read)))
}

fn secrets_in(bytes: &[u8]) -> Result<Vec<Secret>, SecretFileError> {
    let text = std::str::from_utf8(bytes).map_err(|_| SecretFileError::Unusable)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets: Vec<Secret> = lines.map(Secret::new).collect();
    if !secrets.is_empty() && secrets.iter().all(is_usable) {
        Ok(secrets)
    } else {
        Err(SecretFileError::Unusable)
    }
}

/// Whether a secret can stand in a header.
pub fn is_usable(secret: &Secret) -> bool {
    secret.expose().bytes().all(|byte| byte.is_ascii_graphic())
}

impl Secrets {
    fn new(header: &HeaderName, current: &Secret, others: &[Secret]) -> Self {
        let value = |secret: &Secret| {
            if *header == header::AUTHORIZATION {
                format!("Bearer {}", secret.expose())
            } else {
                secret.expose().to_owned()
            }
        };
        let accepted = std::iter::once(current).chain(others);
        Self {
            accepted: accepted
                .map(|secret| Sha256::digest(value(secret)).into())
                .collect(),
            current: Secret::new(value(current)),
        }
    }
}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SharedSecret")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn the_present_and_the_previous_secret_are_good_and_no_other() {
        let secret = SharedSecret::new(header::AUTHORIZATION, &Secret::new("new"), &[Secret::new("old")]);
        assert!(secret.is_shown(&shown("authorization", "Bearer new")));
        assert!(secret.is_shown(&shown("authorization", "Bearer old")));
        for wrong in ["Bearer ne", "Bearer new ", "bearer new", "new", ""] {
            assert!(!secret.is_shown(&shown("authorization", wrong)), "{wrong:?}");
        }
        assert!(!secret.is_shown(&shown("x-secret", "Bearer new")));
        assert_eq!(secret.header_line().expose(), "Authorization: Bearer new");
    }

    #[test]
    fn a_header_of_its_own_holds_the_secret_alone() {
        let secret = SharedSecret::new(HeaderName::from_static("x-researchflow"), &Secret::new("s"), &[]);
        assert!(secret.is_shown(&shown("x-researchflow", "s")));
        assert_eq!(secret.header_line().expose(), "x-researchflow: s");
        assert!(!format!("{secret:?}").contains("Bearer"));
    }

    #[test]
    fn a_change_is_told_when_hapi_is_to_send_another_one() {
        let secret = SharedSecret::new(header::AUTHORIZATION, &Secret::new("one"), &[]);
        let mut changes = secret.changes();
        changes.mark_unchanged();
        secret.change(&Secret::new("one"), &[Secret::new("two")]);
        assert!(!changes.has_changed().unwrap());
        assert!(secret.is_shown(&shown("authorization", "Bearer two")));
        secret.change(&Secret::new("two"), &[]);
        assert!(changes.has_changed().unwrap());
        assert!(!secret.is_shown(&shown("authorization", "Bearer one")));
    }

    #[test]
    fn a_file_holds_a_secret_a_line() {
        let file = std::env::temp_dir().join(format!("webhook-secrets-{}", std::process::id()));
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let read = secrets_of(&file);
            std::fs::remove_file(&file).unwrap();
            read.map(|(secrets, _)| {
                secrets
                    .iter()
                    .map(|secret| secret.expose().to_owned())
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(read(" new \n\nold\n").unwrap(), ["new", "old"]);
        for unusable in ["", "\n", "two words", "\u{e4}"] {
            assert!(
                matches!(read(unusable), Err(SecretFileError::Unusable)),
                "{unusable:?}"
            );
        }
        assert!(matches!(secrets_of(&file), Err(SecretFileError::Unreadable(_))));
    }
}
