//! Which addresses were bound: a JSON line for whoever started the daemon with port 0.

use std::{collections::BTreeMap, io::Write, net::SocketAddr, path::Path, sync::Mutex, sync::PoisonError};

/// The addresses that were bound so far, and the file that is to hold them.
#[derive(Debug, Default)]
pub struct Announcement {
    file: Option<std::path::PathBuf>,
    bound: Mutex<BTreeMap<&'static str, SocketAddr>>,
}

impl Announcement {
    /// An announcement into `file`, if one is wanted.
    pub fn new(file: Option<&Path>) -> Self {
        Self {
            file: file.map(Path::to_owned),
            bound: Mutex::default(),
        }
    }

    /// Notes that `what` (`grpc`, `admin`, `http`) is bound.
    pub fn bound(&self, what: &'static str, address: SocketAddr) {
        tracing::info!(what, %address, "listening");
        self.bound
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(what, address);
    }

    /// Writes the file, once all is bound: whole or not at all, so a reader never sees half a line.
    pub fn publish(&self) -> std::io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let bound: BTreeMap<_, _> = {
            let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
            bound
                .iter()
                .map(|(what, address)| (*what, address.to_string()))
                .collect()
        };
        let aside = file.with_extension("partial");
        let mut out = std::fs::File::create(&aside)?;
        writeln!(out, "{}", serde_json::to_string(&bound)?)?;
        std::fs::rename(aside, file)
    }
}
