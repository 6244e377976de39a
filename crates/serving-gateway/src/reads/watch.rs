//! Looks at one server again and again: whether it answers, whether it is ours, how far it has come.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use daemon::Shutdown;
use tokio::time::Instant;
use view_store::{ExpectedIdentity, ServerLook, ServerWatch, StoreError};

use super::{
    lag::{History, Progress, Reached},
    metrics::ReadMetrics,
    server::{Follows, Role, Server, Standing},
};

/// Between two looks: what a lag is measured with.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that says nothing for so long is lost: it is frozen, or the network is cut. (One that is gone refuses at once.)
const PATIENCE: Duration = Duration::from_secs(2);

/// What all watches of a gateway know of the primary.
#[derive(Debug, Default)]
pub(super) struct OfPrimary {
    history: History,
    /// When it was started: says which server of the cluster it is.
    started: Option<DateTime<Utc>>,
}

/// The watch of one server.
pub(super) struct Watch {
    pub(super) server: Arc<Server>,
    pub(super) expected: ExpectedIdentity,
    pub(super) history: Arc<Mutex<OfPrimary>>,
    pub(super) metrics: ReadMetrics,
    /// Up to which lag a replica is read as if it were the primary.
    pub(super) max_lag: Duration,
}

impl Watch {
    /// Until the stop.
    pub(super) async fn run(self, shutdown: Shutdown) {
        let expected = Some(&self.expected).filter(|_| !self.server.is_primary());
        let mut watch = self.server.store.watch_server(expected);
        let mut progress = Progress::default();
        let mut said = Standing::Unknown.name();
        loop {
            let looking = self.look(&mut watch, &mut progress);
            let Some((standing, failure)) = shutdown.unless_stopped(looking).await else {
                break;
            };
            self.server.standing.send_if_modified(|last| {
                let changed = *last != standing;
                *last = standing;
                changed
            });
            self.metrics
                .standing(&self.server.name, standing, self.max_lag, Instant::now());
            if said != standing.name() {
                said = standing.name();
                self.say(standing, failure.as_ref());
            }
            if !shutdown.sleep(PAUSE).await {
                break;
            }
        }
        watch.close().await;
    }

    async fn look(&self, watch: &mut ServerWatch, progress: &mut Progress) -> (Standing, Option<StoreError>) {
        let began = Instant::now();
        let look = match tokio::time::timeout(PATIENCE, watch.look()).await {
            Err(_) => return (Standing::Lost, None),
            Ok(Err(error @ StoreError::Database { transient: true, .. })) => {
                return (Standing::Lost, Some(error));
            }
            Ok(Err(error)) => return (Standing::Unusable, Some(error)),
            Ok(Ok(None)) => return (Standing::Foreign, None),
            Ok(Ok(Some(look))) => look,
        };
        let mut primary = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let standing = if self.server.is_primary() {
            // After a failover behind its URL it may be another one.
            self.expected.set(look.identity);
            primary.started = Some(look.started);
            primary.history.note(began, Reached::from(&look));
            Standing::Follows(Follows {
                role: Role::Primary,
                has_all_of: Some(began),
                position: look.position,
            })
        } else {
            let has_all_of = progress.advance(Reached::from(&look), &primary.history);
            judged(
                &look,
                self.expected.get().is_some(),
                primary.started,
                began,
                has_all_of,
            )
        };
        (standing, None)
    }

    fn say(&self, standing: Standing, failure: Option<&StoreError>) {
        let (server, standing) = (self.server.name.as_str(), standing.name());
        let reason = match (standing, failure) {
            (_, Some(failure)) => failure.to_string(),
            ("lost", None) => format!("it has said nothing for {} ms", PATIENCE.as_millis()),
            ("foreign", None) => {
                "it is of another cluster, or its database is another one, than that of views.url: see views.read_urls".into()
            }
            ("promoted", None) => {
                "it takes writes of its own: if it is the new primary, set views.url to it, else set it up anew as a replica".into()
            }
            ("paused", None) => "its replay is paused: it falls behind".into(),
            (_, None) => String::new(),
        };
        if reason.is_empty() {
            tracing::info!(server, standing, "a server of the views' PostgreSQL can be read");
        } else {
            tracing::warn!(
                server,
                standing,
                reason,
                "a server of the views' PostgreSQL is not as it should be"
            );
        }
    }
}

/// How a server of the list stands, by what it says of itself and what is known of the primary.
fn judged(
    look: &ServerLook,
    primary_is_known: bool,
    primary_started: Option<DateTime<Utc>>,
    began: Instant,
    has_all_of: Option<Instant>,
) -> Standing {
    if !primary_is_known {
        return Standing::Unknown;
    }
    let (role, has_all_of) = match (look.in_recovery, look.paused) {
        (true, false) => (Role::Replica, has_all_of),
        (true, true) => (Role::Paused, has_all_of),
        // The list, or a name in it, may lead to the primary.
        (false, _) if primary_started == Some(look.started) => (Role::Primary, Some(began)),
        (false, _) => (Role::Promoted, has_all_of),
    };
    Standing::Follows(Follows {
        role,
        has_all_of,
        position: look.position,
    })
}
