//! An issuer of JWTs and its keys, which are fetched, kept, and fetched again: at an interval, and at once when a token names a key that is not held, so that an issuer
//! can change its keys at any time. While the issuer is away its last keys hold, for a bounded time.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use daemon::{Shutdown, mounted};
use reqwest::{Client, Url, header, redirect::Policy};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    Refusal,
    jwt::Rules,
    keys::{self, Key, NoKeys, SignatureAlgorithm},
    measures::Measures,
};

/// How long a fetch may take: callers wait for one.
const FETCH_TIME: Duration = Duration::from_secs(5);
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// Callers who wait for a key at the same time; more are refused at once.
const MAX_WAITING: usize = 1_000;

/// Where an issuer's keys are.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// Its JWK Set over HTTP.
    Url(Url),
    /// A file that holds it.
    File(PathBuf),
}

/// When keys are fetched, and how long they hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// From one fetch to the next.
    pub refresh: Duration,
    /// From one fetch for a key that is not held to the next, and from a failure to the next try.
    pub retry: Duration,
    /// From the last fetch that went well until the keys no longer hold.
    pub stale: Duration,
}

/// Why keys could not be fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    /// The issuer cannot be reached, or does not answer in time.
    #[error("the issuer cannot be reached, or does not answer in time")]
    Away,
    /// It answers with another status than 200. (Redirects are not followed.)
    #[error("the issuer answers with status {0}")]
    Status(u16),
    /// More than 256 KiB.
    #[error("the answer is larger than a JWK Set is")]
    TooLarge,
    /// The file.
    #[error("the file cannot be read: {0}")]
    File(std::io::ErrorKind),
    /// What came is no set of keys.
    #[error("what is there {0}")]
    NoKeys(#[from] NoKeys),
}

/// An issuer.
#[derive(Debug)]
pub(crate) struct Issuer {
    rules: Rules,
    source: Source,
    times: Times,
    http: Client,
    held: RwLock<Held>,
    /// Fetches for a key that is not held. Whoever has the lock fetches; the others wait for it.
    asked: tokio::sync::Mutex<Asked>,
    /// Places for those who wait.
    waiting: Semaphore,
    measures: Measures,
}

#[derive(Debug, Default)]
struct Asked {
    /// When the last one began.
    began: Option<Instant>,
    /// When the last one began that came to its end: not one whose caller went away.
    ended: Option<Instant>,
}

#[derive(Debug, Default)]
struct Held {
    keys: Arc<Vec<Key>>,
    /// As they came.
    text: Vec<u8>,
    /// When the fetch began that last found them to be the issuer's.
    at: Option<Instant>,
    /// Moves when they change.
    generation: u64,
}

impl Issuer {
    /// Without keys yet. Needs a default crypto provider of rustls.
    pub(crate) fn new(
        rules: Rules,
        source: Source,
        times: Times,
        measures: Measures,
    ) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIME)
            .timeout(FETCH_TIME)
            .build()?;
        Ok(Self {
            rules,
            source,
            times,
            http,
            held: RwLock::default(),
            asked: tokio::sync::Mutex::default(),
            waiting: Semaphore::new(MAX_WAITING),
            measures,
        })
    }

    /// What is demanded of its tokens.
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Which keys are held; `None` if there are none that may be used.
    pub(crate) fn generation(&self) -> Option<u64> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        held.at
            .filter(|at| at.elapsed() < self.times.stale)
            .map(|_| held.generation)
    }

    /// The key that a token names, and the generation that it is of. One that is not held is looked for at the issuer, for which a caller may have to wait.
    pub(crate) async fn key(
        &self,
        id: Option<&str>,
        algorithm: SignatureAlgorithm,
    ) -> Result<(Key, u64), Refusal> {
        if let Ok(found) = self.look(id, algorithm) {
            return Ok(found);
        }
        self.fetch_in_turn().await;
        self.look(id, algorithm)
    }

    fn look(&self, id: Option<&str>, algorithm: SignatureAlgorithm) -> Result<(Key, u64), Refusal> {
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        if held.at.is_none_or(|at| at.elapsed() >= self.times.stale) {
            return Err(Refusal::KeysAway);
        }
        keys::choose(&held.keys, id, algorithm)
            .map(|key| (key.clone(), held.generation))
            .ok_or(Refusal::Key)
    }

    /// Fetches for whoever needs a key that is not held: one fetch for all who wait, and `times.retry` between two, as anybody can name a key that does not exist.
    /// Whoever comes in between waits for the next one: so a new key of an honest issuer is never refused.
    async fn fetch_in_turn(&self) {
        let Ok(_place) = self.waiting.try_acquire() else {
            return;
        };
        let came = Instant::now();
        let mut asked = self.asked.lock().await;
        // What began since then is what there is.
        if asked.ended.is_some_and(|at| at >= came) {
            return;
        }
        if let Some(at) = asked.began {
            tokio::time::sleep_until(at + self.times.retry).await;
        }
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner).at;
        if held.is_some_and(|at| at >= came) {
            return;
        }
        let now = Instant::now();
        asked.began = Some(now);
        if let Err(error) = self.fetch().await {
            tracing::warn!(issuer = self.rules.issuer, %error, "keys cannot be fetched for a token that names one that is not held");
        }
        asked.ended = Some(now);
    }

    /// Fetches the keys. Those that are held stay where it fails.
    pub(crate) async fn fetch(&self) -> Result<(), FetchError> {
        let began = Instant::now();
        let fetched = self.fetch_text().await.and_then(|text| {
            let keys = keys::usable(&text)?;
            Ok((text, keys))
        });
        let (text, keys) = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                self.measures.fetched("failed");
                return Err(error);
            }
        };
        self.measures.fetched("ok");
        let mut held = self.held.write().unwrap_or_else(PoisonError::into_inner);
        // Of two that overlap the later one holds.
        if held.at.is_some_and(|at| at > began) {
            return Ok(());
        }
        held.at = Some(began);
        if held.text != text {
            tracing::info!(
                issuer = self.rules.issuer,
                keys = keys.len(),
                "the issuer's keys are others than before"
            );
            held.keys = Arc::new(keys);
            held.text = text;
            held.generation += 1;
        }
        Ok(())
    }

    async fn fetch_text(&self) -> Result<Vec<u8>, FetchError> {
        let url = match &self.source {
            Source::Url(url) => url.clone(),
            Source::File(path) => {
                let read = mounted::read_apart(path).await;
                return read.map_err(|error| match error.kind() {
                    std::io::ErrorKind::FileTooLarge => FetchError::TooLarge,
                    kind => FetchError::File(kind),
                });
            }
        };
        let request = self
            .http
            .get(url)
            .header(header::ACCEPT, "application/jwk-set+json, application/json");
        let mut answer = request.send().await.map_err(|_| FetchError::Away)?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        let mut text = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(|_| FetchError::Away)? {
            if text.len() + part.len() > mounted::MAX_BYTES {
                return Err(FetchError::TooLarge);
            }
            text.extend_from_slice(&part);
        }
        Ok(text)
    }

    /// Keeps the keys fresh until the stop.
    pub(crate) async fn keep(self: Arc<Self>, shutdown: Shutdown) {
        let interval = match &self.source {
            Source::Url(_) => self.times.refresh,
            // A look at a file costs nothing.
            Source::File(_) => mounted::LOOK.min(self.times.refresh),
        };
        let mut said = None;
        loop {
            let Some(fetched) = shutdown.unless_stopped(self.fetch()).await else {
                return;
            };
            let pause = match fetched {
                Ok(()) => {
                    if said.take().is_some() {
                        tracing::info!(issuer = self.rules.issuer, "keys can be fetched again");
                    }
                    interval
                }
                Err(error) => {
                    // Said once, not at each try.
                    if said.as_ref() != Some(&error) {
                        tracing::warn!(issuer = self.rules.issuer, %error, "keys cannot be fetched: those that are held hold on for auth.jwks_stale_seconds");
                        said = Some(error);
                    }
                    interval.min(self.times.retry)
                }
            };
            if !shutdown.sleep(pause).await {
                return;
            }
        }
    }
}
