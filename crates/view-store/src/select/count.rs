//! Counts of a materialised view's rows: of the batch's only once.
//!
//! The rows that the batch has published (base and shadowed together) are many, and change only when it publishes; each such change gives the view another state
//! (`batch_state`). What speed adds and hides (live, shadowed) is few. So `merged = batch - shadowed + live`, each under the question's condition, where the first is
//! remembered for as long as the view's state is the one that it was counted in: the statement tells the state of its own snapshot.
//!
//! All rows of a resource are in one of the three tables, so a condition over its other rows means the same in each of them by itself.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use fhir_core::column::{Column, ColumnKind};
use lru::LruCache;

use super::conditions::Builder;
use super::row::{BATCH, Layout};
use super::statement::Statement;
use super::values::Argument;
use super::{Relation, Select};
use crate::StoreError;
use crate::tables::{self, Table};

/// Counts that are remembered, the last used ones.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4_096).unwrap();
/// Bytes of a question's statement and values at most for its count to be remembered.
const MAX_BYTES: usize = 16 * 1024;

/// Tells the rows of a view that the batch has published from those that it had published before.
pub(super) type BatchState = u128;

/// The one column of a count.
pub(super) fn column() -> Column {
    Column::new("count", ColumnKind::BigInt)
}

/// How many of the batch's rows questions were about, and in which state of the batch. Cheap to clone.
#[derive(Clone)]
pub(crate) struct BatchCounts(Arc<Mutex<LruCache<Question, Arc<Counted>>>>);

/// What is known of one question.
#[derive(Default)]
pub(super) struct Counted {
    known: Mutex<Option<InState>>,
    /// Held by who counts: whoever asks the same meanwhile waits for that.
    counting: tokio::sync::Mutex<()>,
}

impl Counted {
    pub(super) fn known(&self) -> Option<InState> {
        *self.known.lock().ok()?
    }

    /// The turn to count, or what another one has counted meanwhile.
    pub(super) async fn turn(
        &self,
        outdated: Option<InState>,
    ) -> Result<tokio::sync::MutexGuard<'_, ()>, InState> {
        let turn = self.counting.lock().await;
        match self.known() {
            Some(known) if Some(known) != outdated => Err(known),
            _ => Ok(turn),
        }
    }

    pub(super) fn remember(&self, counted: InState) {
        if let Ok(mut known) = self.known.lock() {
            *known = Some(counted);
        }
    }
}

/// A question's statement, which names the view and its definition, and the values that it is asked with.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Question {
    sql: String,
    arguments: Vec<Argument>,
}

/// So many of the batch's rows in this state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct InState {
    pub(super) state: BatchState,
    pub(super) rows: i64,
}

impl Default for BatchCounts {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(REMEMBERED))))
    }
}

/// A question for the number of a view's rows.
pub(super) struct Count<'a> {
    select: &'a Select,
    columns: &'a [Column],
    view: &'a str,
    hash: &'a str,
    /// The view in words, for messages.
    what: String,
}

impl<'a> Count<'a> {
    /// `None`: it is no such question, or one of some of the rows under its condition.
    pub(super) fn of(select: &'a Select, columns: &'a [Column], hash: &'a str) -> Option<Self> {
        let (Relation::Merged(view) | Relation::Batch(view)) = &select.relation else {
            return None;
        };
        let is_of_all = select.limit.is_none() && select.max_resources.is_none() && select.after.is_none();
        (select.count_only && is_of_all).then(|| Self {
            select,
            columns,
            view,
            hash,
            what: format!("view {view}"),
        })
    }

    /// What the batch's rows are counted by, and remembered under: the same for both layers. `None`: it is too large to be kept, or has values that PostgreSQL is asked
    /// about before: among those of dates and times are such as `today`, which are something else tomorrow.
    pub(super) fn question(&self) -> Result<Option<Question>, StoreError> {
        let mut builder = self.builder();
        let sql = format!("/* {} */ {}", self.hash, self.rows_in(Table::Base, &mut builder)?);
        let Builder {
            arguments, checks, ..
        } = builder;
        let bytes: usize = sql.len() + arguments.iter().map(Argument::bytes).sum::<usize>();
        Ok((bytes <= MAX_BYTES && checks.is_empty()).then_some(Question { sql, arguments }))
    }

    /// The count; in a further column the number of the batch's rows, known (as of the state that they are taken to be in) or counted.
    pub(super) fn statement(&self, known: Option<i64>) -> Result<Statement, StoreError> {
        let mut builder = self.builder();
        let is_merged = matches!(self.select.relation, Relation::Merged(_));
        let mut parts = match known {
            Some(rows) => vec![format!(
                "{}::bigint AS batch",
                builder.argument(Argument::Number(rows))
            )],
            None => vec![format!("{} AS base", self.rows_in(Table::Base, &mut builder)?)],
        };
        if is_merged || known.is_none() {
            parts.push(format!(
                "{} AS shadowed",
                self.rows_in(Table::Shadowed, &mut builder)?
            ));
        }
        if is_merged {
            parts.push(format!("{} AS live", self.rows_in(Table::Live, &mut builder)?));
        }
        let (count, batch) = match (is_merged, known) {
            (true, None) => ("base + live", "base + shadowed"),
            (false, None) => ("base + shadowed", "base + shadowed"),
            (true, Some(_)) => ("batch - shadowed + live", "batch"),
            (false, Some(_)) => ("batch", "batch"),
        };
        // OFFSET keeps each part from being counted wherever it is named.
        let sql = format!(
            "SELECT {BATCH} AS _live, {count} AS count, {batch} AS _batch FROM (SELECT {} OFFSET 0) parts",
            parts.join(", ")
        );
        let layout = Layout {
            with_batch_rows: true,
            ..Layout::of_columns(vec![column()])
        };
        Ok(Statement::of(builder, sql, layout))
    }

    fn builder(&self) -> Builder<'_> {
        Builder {
            columns: self.columns,
            rows: String::new(),
            what: &self.what,
            arguments: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// A sub-select: the number of rows of one of the view's tables under the condition.
    fn rows_in(&self, table: Table, builder: &mut Builder<'_>) -> Result<String, StoreError> {
        let list = tables::all_columns(self.columns);
        builder.rows = format!("SELECT {list} FROM {}", table.of(self.view));
        let checked = builder.checks.len();
        let condition = match &self.select.condition {
            Some(condition) => format!(" WHERE {}", builder.condition(condition)?),
            None => String::new(),
        };
        if checked > 0 {
            // They are those of the table before.
            builder.checks.truncate(checked);
        }
        Ok(format!(
            "(SELECT count(*) FROM ({}) source{condition})",
            builder.rows
        ))
    }
}

impl BatchCounts {
    pub(super) fn of(&self, question: Question) -> Arc<Counted> {
        match self.0.lock() {
            Ok(mut counts) => counts.get_or_insert(question, Arc::default).clone(),
            Err(_) => Arc::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Condition, Operator};

    fn question(column: &str, values: &[&str]) -> Option<Question> {
        let columns = [
            ("code", ColumnKind::Text),
            ("issued", ColumnKind::TimestampTz),
            ("born", ColumnKind::Date),
        ]
        .map(|(name, kind)| Column::new(name, kind));
        let select = Select {
            condition: Some(Condition::Compare {
                column: column.into(),
                operator: Operator::In,
                values: values.iter().map(ToString::to_string).collect(),
            }),
            count_only: true,
            ..Select::all(Relation::Merged("v".into()))
        };
        let count = Count::of(&select, &columns, "hash").expect("a count of all rows");
        count.question().expect("a condition")
    }

    #[test]
    fn what_means_something_else_tomorrow_is_not_remembered() {
        assert!(question("code", &["today"]).is_some());
        for (column, value) in [("issued", "today"), ("issued", "now"), ("born", "yesterday")] {
            assert!(question(column, &[value]).is_none(), "{column} {value}");
        }
    }

    #[test]
    fn what_is_remembered_is_small() {
        let values = vec!["x"; 2_000];
        assert!(question("code", &values).is_none());
        assert!(question("code", &values[..100]).is_some());
    }

    #[test]
    fn some_of_the_rows_are_not_counted_so() {
        let of = |change: fn(&mut Select)| {
            let mut select = Select {
                count_only: true,
                ..Select::all(Relation::Batch("v".into()))
            };
            change(&mut select);
            Count::of(&select, &[], "hash").is_some()
        };
        assert!(of(|_| {}));
        assert!(!of(|select| select.count_only = false));
        assert!(!of(|select| select.limit = Some(1)));
        assert!(!of(|select| select.max_resources = Some(1)));
    }
}
