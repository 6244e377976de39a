//! A server that questions are read at, and how it stands.

use std::time::Duration;

use api::{Code, ServiceError};
use tokio::{sync::watch, time::Instant};
use view_store::{LogPosition, StoreError, ViewStore, sql::SqlReader};

use crate::errors::store_error;

/// The primary, or a replica.
pub(crate) struct Server {
    /// Place in `views.read_urls`; `None`: the primary.
    pub(super) place: Option<usize>,
    /// `primary`, `replica-1`: for answers, logs and metrics; never its URL.
    pub(crate) name: String,
    pub(super) store: ViewStore,
    /// The same server over connections that no answer holds: for who holds one of `store` already.
    pub(super) beside: ViewStore,
    /// For statements; `None` where they are not read here.
    pub(super) sql: Option<SqlReader>,
    /// Somebody looks at it; else it is taken to answer.
    pub(super) watched: bool,
    pub(super) standing: watch::Sender<Standing>,
}

/// What the last look at a server has shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Standing {
    /// It was not looked at yet, or the primary was not.
    Unknown,
    /// It does not answer.
    Lost,
    /// It is of another cluster, or its database is another one.
    Foreign,
    /// It answers, and cannot be read: a right is missing, or the schema.
    Unusable,
    /// It can be read.
    Follows(Follows),
}

/// How far a server follows the primary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Follows {
    pub(super) role: Role,
    /// Whatever the primary showed then (by this process' clock) is in; `None`: no such time is known.
    pub(super) has_all_of: Option<Instant>,
    /// Up to where it has replayed.
    pub(super) position: LogPosition,
}

/// What a server that can be read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The primary itself.
    Primary,
    /// It replays.
    Replica,
    /// It would replay, and was told to wait.
    Paused,
    /// It takes writes of its own, apart from the primary.
    Promoted,
}

impl Standing {
    /// In a word, for metrics and logs.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Lost => "lost",
            Self::Foreign => "foreign",
            Self::Unusable => "unusable",
            Self::Follows(follows) => match follows.role {
                Role::Primary => "primary",
                Role::Replica => "following",
                Role::Paused => "paused",
                Role::Promoted => "promoted",
            },
        }
    }

    /// All words.
    pub(super) const NAMES: [&'static str; 8] = [
        "unknown",
        "lost",
        "foreign",
        "unusable",
        "primary",
        "following",
        "paused",
        "promoted",
    ];

    /// How far it follows, if it can be read.
    pub(super) fn follows(self) -> Option<Follows> {
        match self {
            Self::Follows(follows) => Some(follows),
            _ => None,
        }
    }
}

impl Follows {
    /// How long ago the primary showed nothing that is not in here: no less than the truth. `None`: it cannot be told.
    pub(super) fn lag(self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.has_all_of?))
    }

    /// Whether it may be read as if it were the primary.
    pub(super) fn is_within(self, max_lag: Duration, now: Instant) -> bool {
        self.role != Role::Promoted && self.lag(now).is_some_and(|lag| lag <= max_lag)
    }
}

impl Server {
    pub(super) fn primary(
        store: ViewStore,
        beside: ViewStore,
        sql: Option<SqlReader>,
        watched: bool,
    ) -> Self {
        Self {
            place: None,
            name: "primary".into(),
            store,
            beside,
            sql,
            watched,
            standing: watch::Sender::new(Standing::Unknown),
        }
    }

    pub(super) fn replica(place: usize, store: ViewStore, beside: ViewStore, sql: Option<SqlReader>) -> Self {
        Self {
            place: Some(place),
            name: format!("replica-{}", place + 1),
            store,
            beside,
            sql,
            watched: true,
            standing: watch::Sender::new(Standing::Unknown),
        }
    }

    /// As last seen.
    pub(super) fn standing(&self) -> Standing {
        *self.standing.borrow()
    }

    /// Whether it is the one that is written to.
    pub(crate) fn is_primary(&self) -> bool {
        self.place.is_none()
    }

    /// Whether it is known not to answer.
    pub(crate) fn is_lost(&self) -> bool {
        self.standing() == Standing::Lost
    }

    /// An error of its tables, as callers get it. That a replica knows views otherwise than the registry says nothing of the question: it is behind.
    pub(crate) fn error(&self, error: StoreError) -> ServiceError {
        match error {
            StoreError::UnknownView { .. } if !self.is_primary() => self.has_not_yet(),
            error => store_error(error),
        }
    }

    /// A replica is behind the registry.
    pub(crate) fn has_not_yet(&self) -> ServiceError {
        let message = format!("{} does not have the view yet: try again", self.name);
        ServiceError::new(Code::Unavailable, message)
    }

    /// Why a replica is further behind than it should be, in words; `None` if it is not.
    pub(super) fn behind(&self, max_lag: Duration, now: Instant) -> Option<String> {
        let name = &self.name;
        let Some(follows) = self.standing().follows() else {
            return Some(format!("{name} was lost while it was asked"));
        };
        if follows.is_within(max_lag, now) {
            return None;
        }
        Some(match (follows.role, follows.lag(now)) {
            (Role::Promoted, _) => format!("{name} was promoted: it does not follow the primary any more"),
            (_, None) => format!("how far {name} is behind the primary is not known"),
            (role, Some(lag)) => {
                let why = if role == Role::Paused {
                    ": its replay is paused"
                } else {
                    ""
                };
                format!("{name} is {} ms behind the primary{why}", lag.as_millis())
            }
        })
    }
}
