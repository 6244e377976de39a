//! What can go wrong with a backup, as its callers need to know it.

use api::{Code, ServiceError};

use crate::store::StoreError;

/// An error of a backup or a restore. Never holds content.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The speed store.
    #[error("the speed store: {0}")]
    Store(#[from] StoreError),
    /// Where backups lie cannot be reached, or refuses.
    #[error("backup.url cannot be used: {}", brief(.0))]
    Target(#[from] object_store::Error),
    /// The folder cannot be made, or cleared.
    #[error("backup.url cannot be used: {0}")]
    Folder(#[from] std::io::Error),
    /// Somebody else has the lock.
    #[error("another backup or restore is under way: wait for its end")]
    Busy,
    /// Not due any more: another ingestor was first.
    #[error("another ingestor has made this backup")]
    NotDue,
    /// Nothing can be said yet of what the store holds.
    #[error("{0}")]
    TooEarly(&'static str),
    /// There is no such backup.
    #[error("there is no complete backup {0}: ListBackups has those that there are")]
    Unknown(String),
    /// There is no backup at all.
    #[error("there is no complete backup yet")]
    None,
    /// What was read is not what was written.
    #[error("{object} of backup {name} is damaged: {what}; nothing was restored")]
    Damaged {
        /// The backup.
        name: String,
        /// Which object.
        object: String,
        /// What is wrong.
        what: &'static str,
    },
    /// An object changed, or went, after its sum was found right.
    #[error(
        "{object} of backup {name} has changed while it was restored: what was put back is right, the rest is missing"
    )]
    Changed {
        /// The backup.
        name: String,
        /// Which object.
        object: String,
    },
    /// The form of a later release.
    #[error("the backup is of format {0}, which a later release has written")]
    Later(u32),
    /// Numbers of the backup mean nothing here.
    #[error("the backup does not fit: {0}; nothing was restored")]
    Foreign(String),
    /// The tail, or the batch layer.
    #[error("{0}")]
    Tail(ServiceError),
    /// All is put back, but not what has happened since.
    #[error(
        "the readings were put back, but what was committed since was not read ({0}): restore once more, or flush these types, which the tail then reads again"
    )]
    NotCaughtUp(ServiceError),
}

impl From<BackupError> for ServiceError {
    fn from(error: BackupError) -> Self {
        let code = match error {
            BackupError::Store(error) => return error.into(),
            BackupError::Tail(error) => return error,
            BackupError::Target(_) | BackupError::Folder(_) | BackupError::NotCaughtUp(_) => {
                Code::Unavailable
            }
            BackupError::Busy
            | BackupError::NotDue
            | BackupError::TooEarly(_)
            | BackupError::Later(_)
            | BackupError::Foreign(_) => Code::Precondition,
            BackupError::Unknown(_) | BackupError::None => Code::NotFound,
            BackupError::Damaged { .. } | BackupError::Changed { .. } => Code::DataLoss,
        };
        Self::new(code, error.to_string())
    }
}

/// The text without what a server has answered, which may be a page of XML.
fn brief(error: &object_store::Error) -> String {
    let text = error.to_string();
    let end = text.find('<').unwrap_or(text.len());
    text[..end]
        .chars()
        .take(400)
        .collect::<String>()
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_answer_is_cut() {
        let error = BackupError::from(object_store::Error::Generic {
            store: "S3",
            source: "status code: 403: <Error><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>".into(),
        });
        let text = ServiceError::from(error).message;
        assert!(text.contains("403") && !text.contains("AKIA"), "{text}");
    }
}
