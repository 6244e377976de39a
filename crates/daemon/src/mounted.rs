//! Small files that are mounted and may change while a daemon runs: tokens, secrets, keys.

use std::{
    io::{self, Read as _},
    path::Path,
    time::Duration,
};

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
