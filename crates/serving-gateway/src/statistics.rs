//! What this gateway has served: for `GetStatistics` and, in the same breath, as metrics.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use api::proto::serving as proto;
use chrono::{DateTime, Utc};

use crate::metrics::{QuerySource, ServingMetrics, SourceLabel};

/// Where an answer came from, and whether live rows could be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Served {
    /// View tables, merged.
    Merged,
    /// View tables, batch only.
    Batch,
    /// HAPI's raw tables.
    Raw,
}

#[derive(Debug, Default, Clone)]
struct Counts {
    total: i64,
    materialized: i64,
    raw: i64,
    speed_layer: i64,
    changes_applied: i64,
    /// Queries and rows by view.
    views: BTreeMap<String, (i64, i64)>,
}

/// The counters. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Statistics {
    counts: Arc<Mutex<(DateTime<Utc>, Counts)>>,
    metrics: ServingMetrics,
}

impl Statistics {
    pub(crate) fn new(since: DateTime<Utc>, metrics: ServingMetrics) -> Self {
        Self {
            counts: Arc::new(Mutex::new((since, Counts::default()))),
            metrics,
        }
    }

    /// An answer was begun.
    pub(crate) fn query(&self, view: &str, served: Served) {
        self.with(|counts| {
            counts.total += 1;
            match served {
                Served::Raw => counts.raw += 1,
                Served::Batch | Served::Merged => counts.materialized += 1,
            }
            counts.speed_layer += i64::from(served == Served::Merged);
            counts.views.entry(view.to_owned()).or_default().0 += 1;
        });
        let source = match served {
            Served::Merged => QuerySource::Merged,
            Served::Batch => QuerySource::Batch,
            Served::Raw => QuerySource::Raw,
        };
        self.metrics.queries.get_or_create(&SourceLabel { source }).inc();
    }

    /// Rows of an answer were sent.
    pub(crate) fn rows(&self, view: &str, rows: i64) {
        self.with(|counts| counts.views.entry(view.to_owned()).or_default().1 += rows);
        self.metrics.rows.inc_by(rows.unsigned_abs());
    }

    /// An answer over several views was begun: one question, which asks each of them.
    pub(crate) fn query_over<'a>(&self, views: impl IntoIterator<Item = &'a str>, served: Served) {
        self.with(|counts| {
            counts.total += 1;
            counts.materialized += 1;
            counts.speed_layer += i64::from(served == Served::Merged);
            for view in views {
                counts.views.entry(view.to_owned()).or_default().0 += 1;
            }
        });
        let source = match served {
            Served::Merged => QuerySource::Merged,
            Served::Batch | Served::Raw => QuerySource::Batch,
        };
        self.metrics.queries.get_or_create(&SourceLabel { source }).inc();
    }

    /// Rows of an answer to a statement were sent; they are of no view in particular.
    pub(crate) fn sql_rows(&self, rows: i64) {
        self.metrics.rows.inc_by(rows.unsigned_abs());
    }

    /// Live changes were applied.
    pub(crate) fn applied(&self, changes: usize) {
        self.with(|counts| counts.changes_applied += i64::try_from(changes).unwrap_or(i64::MAX));
    }

    /// Sets all to zero.
    pub(crate) fn reset(&self, now: DateTime<Utc>) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = (now, Counts::default());
    }

    fn with(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner).1);
    }

    /// As the contract has them.
    pub(crate) fn answer(
        &self,
        views_cached: usize,
        speed_layer_enabled: bool,
    ) -> proto::GetStatisticsResponse {
        let (since, counts) = self.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        #[expect(clippy::cast_precision_loss, reason = "a percentage")]
        let percent = |part: i64| {
            if counts.total == 0 {
                0.0
            } else {
                part as f64 * 100.0 / counts.total as f64
            }
        };
        proto::GetStatisticsResponse {
            total_queries: counts.total,
            materialized_queries: counts.materialized,
            raw_queries: counts.raw,
            speed_layer_queries: counts.speed_layer,
            materialized_percent: percent(counts.materialized),
            raw_percent: percent(counts.raw),
            speed_layer_percent: percent(counts.speed_layer),
            views_cached: i64::try_from(views_cached).unwrap_or(i64::MAX),
            speed_layer_enabled,
            since: Some(api::time::timestamp(since)),
            views: counts
                .views
                .into_iter()
                .map(|(view, (queries, rows))| proto::ViewStatistics { view, queries, rows })
                .collect(),
            changes_applied: counts.changes_applied,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_counted_by_where_they_were_answered() {
        let metrics = ServingMetrics::register(&daemon::metrics::Metrics::new());
        let statistics = Statistics::new(DateTime::UNIX_EPOCH, metrics);
        assert!(
            statistics.answer(0, true).raw_percent.abs() < f64::EPSILON,
            "no division by nothing"
        );
        statistics.query("a", Served::Merged);
        statistics.query("a", Served::Merged);
        statistics.query("a", Served::Batch);
        statistics.query("b", Served::Raw);
        statistics.rows("a", 7);
        statistics.applied(3);
        let answer = statistics.answer(5, true);
        assert_eq!(
            (
                answer.total_queries,
                answer.materialized_queries,
                answer.raw_queries,
                answer.speed_layer_queries
            ),
            (4, 3, 1, 2)
        );
        assert!(
            (answer.materialized_percent - 75.0).abs() < 1e-9
                && (answer.speed_layer_percent - 50.0).abs() < 1e-9
        );
        assert_eq!((answer.views_cached, answer.changes_applied), (5, 3));
        assert_eq!((answer.views[0].queries, answer.views[0].rows), (3, 7));
        statistics.query_over(["a", "b"], Served::Merged);
        let answer = statistics.answer(5, true);
        assert_eq!((answer.total_queries, answer.speed_layer_queries), (5, 3));
        assert_eq!((answer.views[0].queries, answer.views[1].queries), (4, 2));
        statistics.reset(DateTime::UNIX_EPOCH);
        assert_eq!(statistics.answer(5, true).total_queries, 0);
    }
}
