//! The servers of one question, in the order in which they are asked.

use std::{sync::Arc, time::Duration};

use api::{
    Code, ServiceError,
    query::{FreshnessDemand, Layers, NotBefore, ResourceVersion},
};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use view_store::{LogPosition, StoreError, ViewStore, sql::SqlReader};

use super::{
    Reads,
    metrics::ReadMetrics,
    server::{Role, Server, Standing},
};

/// What a question asks of the server that it is read at.
#[derive(Debug, Clone)]
pub(crate) struct Demand<'a> {
    /// Versions that must be visible, in these layers; `since` is HAPI's time when it was asked, `deadline` when waiting ends.
    pub(super) versions: &'a [ResourceVersion],
    pub(super) layers: Layers,
    pub(super) since: DateTime<Utc>,
    pub(super) deadline: Instant,
    max_staleness: Option<TimeDelta>,
    /// Its snapshot must hold everything before this place of the log.
    pub(super) from: Option<LogPosition>,
    /// It is a statement of the caller.
    pub(super) sql: bool,
}

impl<'a> Demand<'a> {
    /// What a caller asks for; `layers` are those that the answer is made of.
    pub(crate) fn of(
        freshness: &'a FreshnessDemand,
        layers: Layers,
        since: DateTime<Utc>,
        deadline: Instant,
    ) -> Self {
        Self {
            versions: &freshness.at_least,
            layers,
            since,
            deadline,
            max_staleness: freshness.max_staleness,
            from: freshness
                .not_before
                .and_then(NotBefore::position)
                .map(LogPosition),
            sql: false,
        }
    }

    /// Nothing.
    pub(crate) fn none() -> Demand<'static> {
        Demand {
            versions: &[],
            layers: Layers::Merged,
            since: DateTime::UNIX_EPOCH,
            deadline: Instant::now(),
            max_staleness: None,
            from: None,
            sql: false,
        }
    }

    /// The page before was read up to here: nothing that it showed may be taken back.
    #[must_use]
    pub(crate) fn from(self, position: Option<u64>) -> Self {
        let from = self.from.max(position.map(LogPosition));
        Self { from, ..self }
    }

    /// By statements of callers.
    #[must_use]
    pub(crate) fn in_sql(self) -> Self {
        Self { sql: true, ..self }
    }

    /// How far a replica may be behind. Whoever says how old an answer may be has said it.
    pub(super) fn max_lag(&self, by_default: Duration) -> Duration {
        self.max_staleness
            .map_or(by_default, |max| max.to_std().unwrap_or_default())
    }
}

/// What is known of a replica when a question comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) standing: Standing,
    /// It has a connection to spare.
    pub(super) has_room: bool,
    /// It can be asked such a question at all.
    pub(super) is_able: bool,
}

/// Whom to ask, the first one first; `None` is the primary.
///
/// Replicas that are near enough come first, in turn, and those with room before those without; then the primary. Replicas that are further behind come after it, the
/// nearest first: where it does not answer, an older answer that says so is better than none. (Whoever does not want one says `max_staleness`.)
pub(super) fn order(
    replicas: &[Seen],
    primary_is_lost: bool,
    max_lag: Duration,
    from: Option<LogPosition>,
    turn: usize,
    now: Instant,
) -> Vec<Option<usize>> {
    let (mut fit, mut late) = (Vec::new(), Vec::new());
    for i in 0..replicas.len() {
        let place = turn.wrapping_add(i) % replicas.len();
        let seen = replicas[place];
        let Some(follows) = seen.standing.follows().filter(|_| seen.is_able) else {
            continue;
        };
        // A promoted server's log is another one from there on: its places say nothing of what was shown before.
        if from.is_some() && follows.role == Role::Promoted {
            continue;
        }
        // It has come at least so far: perhaps further since it was looked at, which only costs the primary a question.
        let has_come = from.is_none_or(|from| follows.position >= from);
        if follows.is_within(max_lag, now) && has_come {
            fit.push(place);
        } else {
            late.push((follows.lag(now).unwrap_or(Duration::MAX), place));
        }
    }
    fit.sort_by_key(|place| !replicas[*place].has_room);
    late.sort_unstable();
    let fit = fit.into_iter().map(Some);
    let late = late.into_iter().map(|(_, place)| Some(place));
    if primary_is_lost {
        fit.chain(late).chain([None]).collect()
    } else {
        fit.chain([None]).chain(late).collect()
    }
}

/// The servers of a question, and the one whose turn it is.
pub(crate) struct Route {
    servers: Vec<Arc<Server>>,
    at: usize,
    from: Option<LogPosition>,
    /// The weightiest of what servers before have said.
    refusal: Option<ServiceError>,
    metrics: ReadMetrics,
}

impl Route {
    pub(super) fn new(reads: &Reads, servers: Vec<Arc<Server>>, from: Option<LogPosition>) -> Self {
        Self {
            servers,
            at: 0,
            from,
            refusal: None,
            metrics: reads.metrics.clone(),
        }
    }

    /// Whom to ask now.
    pub(crate) fn server(&self) -> Arc<Server> {
        self.servers[self.at].clone()
    }

    /// The tables of that server. The primary has everything that any other server has shown.
    pub(crate) fn store(&self) -> ViewStore {
        let server = &self.servers[self.at];
        server
            .store
            .at_or_after(self.from.filter(|_| !server.is_primary()))
    }

    /// Statements there; `None` where there are none.
    pub(crate) fn sql(&self) -> Option<SqlReader> {
        let server = &self.servers[self.at];
        let from = self.from.filter(|_| !server.is_primary());
        server.sql.as_ref().map(|sql| sql.at_or_after(from))
    }

    /// A place behind everything that an answer of that server shows which has begun.
    pub(crate) async fn shown_until(&self) -> Result<u64, StoreError> {
        Ok(self.servers[self.at].beside.shown_until().await?.0)
    }

    /// That server has answered.
    pub(crate) fn answered(&self) {
        self.metrics.answered(&self.servers[self.at].name);
    }

    /// That server has no answer: it is the next one's turn, if there is one that may have it. No row must have been sent.
    pub(crate) fn missed(&mut self, error: ServiceError) -> Result<(), ServiceError> {
        // What the primary has not, nobody has.
        let is_final = self.servers[self.at].is_primary() && error.code == Code::Precondition;
        if is_final || !is_of_the_server(&error) {
            return Err(error);
        }
        self.next(error)
    }

    /// That server says that something is wrong with the question, by definitions that it may not have yet: the primary has the last word.
    pub(crate) fn doubted(&mut self, error: ServiceError) -> Result<(), ServiceError> {
        if self.servers[self.at].is_primary() {
            return Err(error);
        }
        self.next(error)
    }

    fn next(&mut self, error: ServiceError) -> Result<(), ServiceError> {
        let server = &self.servers[self.at];
        // That an answer would be too old says more than that somebody is away, and the primary more than others.
        let weight = |error: &ServiceError| error.code == Code::Precondition;
        let known = self.refusal.take();
        let kept = match known {
            Some(known) if weight(&known) && !weight(&error) => known,
            Some(known) if !server.is_primary() && weight(&known) == weight(&error) => known,
            _ => error,
        };
        if self.at + 1 == self.servers.len() {
            return Err(kept);
        }
        self.metrics.missed(&server.name);
        self.refusal = Some(kept);
        self.at += 1;
        Ok(())
    }
}

/// Whether it may be otherwise at another server: what is wrong with the question is wrong everywhere, and a limit that was met would be met again.
fn is_of_the_server(error: &ServiceError) -> bool {
    matches!(
        error.code,
        Code::Unavailable | Code::Precondition | Code::Internal
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reads::server::Follows;

    const SECOND: Duration = Duration::from_secs(1);

    fn seen(now: Instant, role: Role, lag_ms: u64, position: u64) -> Seen {
        Seen {
            standing: Standing::Follows(Follows {
                role,
                has_all_of: now.checked_sub(Duration::from_millis(lag_ms)),
                position: LogPosition(position),
            }),
            has_room: true,
            is_able: true,
        }
    }

    #[test]
    fn near_replicas_take_turns_and_the_primary_stands_behind_them() {
        let now = Instant::now();
        let replicas = [300, 10, 4_000, 2_000].map(|lag| seen(now, Role::Replica, lag, 5));
        let at = |turn, lost, max| order(&replicas, lost, max, None, turn, now);
        assert_eq!(at(0, false, SECOND), [Some(0), Some(1), None, Some(3), Some(2)]);
        assert_eq!(at(1, false, SECOND), [Some(1), Some(0), None, Some(3), Some(2)]);
        assert_eq!(at(0, true, SECOND), [Some(0), Some(1), Some(3), Some(2), None]);
        assert_eq!(at(0, false, SECOND / 10)[..2], [Some(1), None]);
        assert_eq!(at(2, false, SECOND * 3)[..4], [Some(3), Some(0), Some(1), None]);
    }

    #[test]
    fn what_cannot_be_read_is_not_asked_and_a_promoted_one_only_at_last() {
        let now = Instant::now();
        let of = |standing| Seen {
            standing,
            has_room: true,
            is_able: true,
        };
        let mut replicas = vec![
            of(Standing::Unknown),
            of(Standing::Lost),
            of(Standing::Foreign),
            of(Standing::Unusable),
            seen(now, Role::Promoted, 0, 5),
            seen(now, Role::Primary, 0, 5),
        ];
        let at = |replicas: &[Seen], lost| order(replicas, lost, SECOND, None, 0, now);
        assert_eq!(at(&replicas, false), [Some(5), None, Some(4)]);
        replicas[5].is_able = false;
        assert_eq!(at(&replicas, true), [Some(4), None]);
        // Its log is another one: what was shown before may not be in it.
        let from = Some(LogPosition(5));
        assert_eq!(order(&replicas, true, SECOND, from, 0, now), [None]);
    }

    #[test]
    fn who_has_not_come_to_the_place_is_asked_after_the_primary() {
        let now = Instant::now();
        let replicas = [4, 5, 6].map(|position| seen(now, Role::Replica, 10, position));
        let from = Some(LogPosition(5));
        assert_eq!(
            order(&replicas, false, SECOND, from, 0, now),
            [Some(1), Some(2), None, Some(0)]
        );
    }

    #[test]
    fn those_with_a_connection_to_spare_come_first() {
        let now = Instant::now();
        let mut replicas = [1, 2].map(|lag| seen(now, Role::Replica, lag, 5));
        replicas[0].has_room = false;
        assert_eq!(
            order(&replicas, false, SECOND, None, 0, now),
            [Some(1), Some(0), None]
        );
    }
}
