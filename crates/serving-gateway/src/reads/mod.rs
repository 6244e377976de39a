//! Where a question is read: at the primary of the views' PostgreSQL or at one of its streaming replicas. All questions over view tables go through here.
//!
//! ```text
//! question ──demand──► Route: servers in the order to be asked ──► an answer of one snapshot of one server
//!                        ▲                                    └─► missed: the next server, as long as no row has been sent
//! each server ──watch──► Standing: does it answer, is it ours, how far has it come ──► lag
//! ```
//!
//! A replica's snapshot holds rows, ledger and freshness as the primary had them at one moment, so an answer from it is as honest as any: its `as_of` is older, and its
//! staleness, reckoned from HAPI's time now, greater. The measured lag only chooses whom to ask; what an answer promises is checked in its snapshot.
//! Whatever writes, and rows that the caller brings (a view that is not materialised), is the primary's alone.

pub(crate) mod config;
mod guard;
mod lag;
mod metrics;
mod route;
mod server;
mod versions;
mod watch;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use api::proto::serving::{Degradation, DegradationReason};
use daemon::Shutdown;
use tokio::time::Instant;
use view_store::{ExpectedIdentity, Pulse, StoreError, StoreSettings, ViewStore, sql::SqlReader};

pub(crate) use self::{
    metrics::ReadMetrics,
    route::{Demand, Route},
    server::Server,
};
use crate::{config::Config, freshness::AnswerFreshness};

/// Connections to a replica beside those of answers: for statements of less than a millisecond.
const BESIDE: u32 = 2;

/// The servers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reads {
    primary: Arc<Server>,
    /// In the order of `views.read_urls`.
    replicas: Arc<[Arc<Server>]>,
    /// Whose turn it is.
    turn: Arc<AtomicUsize>,
    max_lag: Duration,
    expected: ExpectedIdentity,
    metrics: ReadMetrics,
}

impl Reads {
    /// Over the primary, which is connected (`beside` over connections that no answer holds), and the replicas of the configuration, which may be away.
    pub(crate) fn new(
        config: &Config,
        primary: ViewStore,
        beside: ViewStore,
        sql: Option<SqlReader>,
        metrics: ReadMetrics,
    ) -> Result<Self, StoreError> {
        let expected = ExpectedIdentity::default();
        let views = &config.views;
        let watched = !views.read_urls.is_empty();
        let turn = config.degradation.turn_seconds;
        let replica = |(i, url): (usize, &daemon::Secret)| {
            let store = |max_connections| {
                let settings = StoreSettings {
                    url: url.expose().to_owned(),
                    max_connections,
                    skew: daemon::config::span(views.clock_skew_seconds),
                };
                ViewStore::replica(&settings, &expected).map(|store| store.with_turns_within(turn))
            };
            let sql = config::sql_settings(config, i).map(|settings| {
                let reader = SqlReader::replica(settings, &expected)?;
                // What is known of the server is known here: its guard ends what waits for it.
                Ok::<_, StoreError>(reader.watched_by(Pulse::default(), turn))
            });
            let (store, beside) = (store(views.max_connections)?, store(BESIDE)?);
            Ok(Arc::new(Server::replica(i, store, beside, sql.transpose()?)))
        };
        let replicas: Vec<Arc<Server>> = views
            .read_urls
            .iter()
            .enumerate()
            .map(replica)
            .collect::<Result<_, StoreError>>()?;
        Ok(Self {
            primary: Arc::new(Server::primary(primary, beside, sql, watched)),
            replicas: replicas.into(),
            turn: Arc::default(),
            max_lag: views.max_replica_lag_seconds,
            expected,
            metrics,
        })
    }

    /// Whether there is more than the primary.
    pub(crate) fn has_replicas(&self) -> bool {
        !self.replicas.is_empty()
    }

    /// The primary.
    pub(crate) fn primary(&self) -> &Arc<Server> {
        &self.primary
    }

    /// Whether questions are answered while the primary is away.
    pub(crate) fn go_on_without_the_primary(&self) -> bool {
        self.primary.is_lost()
            && self
                .replicas
                .iter()
                .any(|replica| replica.standing().follows().is_some())
    }

    /// The servers for a question, the first to be asked first.
    fn servers(&self, demand: &Demand) -> Vec<Arc<Server>> {
        if self.replicas.is_empty() {
            return vec![self.primary.clone()];
        }
        let seen: Vec<route::Seen> = self
            .replicas
            .iter()
            .map(|replica| route::Seen {
                standing: replica.standing(),
                has_room: replica.store.has_room(),
                is_able: !demand.sql || replica.sql.is_some(),
            })
            .collect();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let bound = demand.max_lag(self.max_lag);
        let order = route::order(
            &seen,
            self.primary.is_lost(),
            bound,
            demand.from,
            turn,
            Instant::now(),
        );
        let server = |place: Option<usize>| match place {
            None => self.primary.clone(),
            Some(i) => self.replicas[i].clone(),
        };
        order.into_iter().map(server).collect()
    }

    /// Says in an answer's freshness where it was read, and why that is less than it could be.
    pub(crate) fn tell(&self, server: &Server, freshness: &mut AnswerFreshness) {
        if self.replicas.is_empty() {
            return;
        }
        let mut degradations = Vec::new();
        if server.place.is_some() {
            if self.primary.is_lost() {
                degradations.push(Degradation {
                    reason: DegradationReason::PrimaryUnavailable.into(),
                    detail: "the primary of the views' PostgreSQL does not answer: nothing newer than as_of can be shown".into(),
                });
            }
            if let Some(detail) = server.behind(self.max_lag, Instant::now()) {
                degradations.push(Degradation {
                    reason: DegradationReason::ReplicaBehind.into(),
                    detail,
                });
            }
        }
        freshness.read_at(server.name.clone(), degradations);
    }

    /// Looks at all servers until the stop. Nothing is looked at where there are no replicas.
    pub(crate) fn watch(&self, shutdown: &Shutdown) {
        if self.replicas.is_empty() {
            return;
        }
        let history = Arc::default();
        for server in std::iter::once(&self.primary).chain(self.replicas.iter()) {
            let watch = watch::Watch {
                server: server.clone(),
                expected: self.expected.clone(),
                history: Arc::clone(&history),
                metrics: self.metrics.clone(),
                max_lag: self.max_lag,
            };
            shutdown.spawn(watch.run(shutdown.clone()));
        }
    }
}
