//! Small files that are mounted and may change while a daemon runs: tokens, secrets, keys.

use std::{
    fmt::Display,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::Shutdown;

/// How often a file is looked at.
pub const LOOK: Duration = Duration::from_secs(1);
/// Bytes of one at most.
pub const MAX_BYTES: usize = 256 * 1024;

/// All that it holds. Errors show neither path nor content.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX);
    std::fs::File::open(path)?
        .take(most + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() > MAX_BYTES {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    Ok(bytes)
}

/// The same, beside the runtime.
pub async fn read_apart(path: &Path) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || read(&path)).await;
    reading.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::Interrupted)))
}

/// Keeps to what a file holds, until the stop: `take` is given what two looks in a row have found (else it may be half written), if it is not what `taken` was. What cannot be
/// read or taken changes nothing, and is said once. `key` is the setting that names the file.
pub async fn follow<E: Display>(
    key: &'static str,
    file: PathBuf,
    mut taken: Vec<u8>,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
    shutdown: Shutdown,
) {
    let (mut seen, mut away) = (None, false);
    while shutdown.sleep(LOOK).await {
        let bytes = match read_apart(&file).await {
            Ok(bytes) => bytes,
            Err(error) => {
                seen = None;
                if !std::mem::replace(&mut away, true) {
                    tracing::error!(key, reason = %error.kind(), "a file cannot be read: what it held before holds");
                }
                continue;
            }
        };
        if std::mem::take(&mut away) {
            tracing::info!(key, "a file can be read again");
        }
        if bytes != taken && seen.as_ref() == Some(&bytes) {
            match take(&bytes) {
                Ok(()) => tracing::info!(key, "a file has changed"),
                Err(error) => {
                    tracing::error!(key, %error, "a file has changed and cannot be used: what it held before holds");
                }
            }
            taken.clone_from(&bytes);
        }
        seen = Some(bytes);
    }
}
