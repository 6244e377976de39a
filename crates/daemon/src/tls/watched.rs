//! What is made of files, and made again when they change.
//!
//! The files' content is compared, not their times or places: so it is seen when Kubernetes exchanges the link to a mounted Secret's folder, and not when somebody
//! only touches a file.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use super::{
    material::{Contents, File, TlsError},
    measures::TlsMeasures,
};
use crate::Shutdown;

/// Whose files they are, and how they are watched.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// As its metrics and log lines have it.
    pub(super) name: &'static str,
    pub(super) measures: TlsMeasures,
    /// How often they are looked at.
    pub(super) interval: Duration,
    pub(super) shutdown: Shutdown,
}

/// What was made, and when the certificate in it ends (seconds since 1970), if there is one.
pub(super) struct Made<T> {
    pub(super) value: T,
    pub(super) not_after: Option<i64>,
}

impl<T> Made<T> {
    pub(super) fn and_then<U>(
        self,
        make: impl FnOnce(T) -> Result<U, TlsError>,
    ) -> Result<Made<U>, TlsError> {
        Ok(Made {
            value: make(self.value)?,
            not_after: self.not_after,
        })
    }
}

type Make<T> = dyn Fn(&Contents) -> Result<Made<T>, TlsError> + Send + Sync;

/// What the files say, as of the last look at which they could be used. Cheap to clone.
pub struct Watched<T>(Arc<RwLock<Arc<T>>>);

/// The one that looks.
struct Watch<T> {
    endpoint: Endpoint,
    files: Vec<File>,
    make: Box<Make<T>>,
    current: Watched<T>,
}

/// What a look finds: which content, or why there is none.
type Look = Result<[u8; 32], TlsError>;

impl<T: Send + Sync + 'static> Watched<T> {
    /// Makes it for the first time, and again at each change until the stop. Needs a tokio runtime if there are files.
    pub(super) fn start(
        endpoint: &Endpoint,
        files: Vec<File>,
        make: impl Fn(&Contents) -> Result<Made<T>, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let contents = Contents::read(&files)?;
        let Made { value, not_after } = make(&contents)?;
        let this = Self::fixed(value);
        if files.is_empty() {
            return Ok(this);
        }
        let watch = Watch {
            endpoint: endpoint.clone(),
            files,
            make: Box::new(make),
            current: this.clone(),
        };
        endpoint.measures.watching(endpoint.name);
        watch.tell(not_after);
        endpoint.shutdown.spawn(watch.keep(contents.digest()));
        Ok(this)
    }

    /// What no file changes.
    pub fn fixed(value: T) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(value))))
    }

    /// What holds now.
    pub fn current(&self) -> Arc<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<T: Send + Sync + 'static> Watch<T> {
    async fn keep(self, first: [u8; 32]) {
        let mut seen: Look = Ok(first);
        let mut settled: Look = Ok(first);
        while self.endpoint.shutdown.sleep(self.endpoint.interval).await {
            let files = self.files.clone();
            let Ok(read) = tokio::task::spawn_blocking(move || Contents::read(&files)).await else {
                // The runtime is ending.
                return;
            };
            let look = read.as_ref().map(Contents::digest).map_err(Clone::clone);
            // Seen twice: neither is it being written just now, nor is one of its files still the one from before.
            if look == seen && look != settled {
                self.settle(read);
                settled.clone_from(&look);
            }
            seen = look;
        }
    }

    /// Goes over to what the files say now, or keeps to what holds.
    fn settle(&self, read: Result<Contents, TlsError>) {
        let endpoint = self.endpoint.name;
        match read.and_then(|contents| (self.make)(&contents)) {
            Ok(Made { value, not_after }) => {
                let mut current = self.current.0.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(value);
                drop(current);
                self.tell(not_after);
                self.endpoint.measures.reloaded(endpoint);
                tracing::info!(
                    endpoint,
                    "files of TLS have changed: new connections take what they say"
                );
            }
            Err(error) => {
                self.endpoint.measures.reload_failed(endpoint);
                tracing::error!(
                    endpoint,
                    reason = %error,
                    "files of TLS have changed and cannot be used: those from before stay in use"
                );
            }
        }
    }

    fn tell(&self, not_after: Option<i64>) {
        if let Some(not_after) = not_after {
            self.endpoint.measures.certificate(self.endpoint.name, not_after);
        }
    }
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").finish_non_exhaustive()
    }
}
