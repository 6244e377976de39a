//! The SQL of a select: made of quoted names, fixed words and numbered parameters; what a caller gives only ever travels as a parameter.

use std::fmt::Write as _;

use fhir_core::column::Column;
use sqlx::postgres::PgArguments;

use super::conditions::Builder;
use super::count;
use super::row::{self, Layout};
use super::values::{Argument, ValueCheck, bound};
use super::{Relation, Select};
use crate::StoreError;
use crate::tables::{self, Table};

/// What rows are selected from.
pub(super) struct Source {
    /// Qualified names, and whether the rows are live.
    parts: Vec<(String, bool)>,
    /// In words, for messages.
    what: String,
}

impl Source {
    pub(super) fn one(table: &str, what: &str) -> Self {
        Self {
            parts: vec![(table.into(), false)],
            what: what.into(),
        }
    }

    /// The two tables of a view; `None` for rows of the caller.
    pub(super) fn of(relation: &Relation) -> Option<Self> {
        let (name, other) = match relation {
            Relation::Merged(name) => (name, Table::Live),
            Relation::Batch(name) => (name, Table::Shadowed),
            Relation::Given { .. } => return None,
        };
        Some(Self {
            parts: vec![
                (Table::Base.of(name), false),
                (other.of(name), other == Table::Live),
            ],
            what: format!("view {name}"),
        })
    }

    fn tables(&self) -> String {
        let names: Vec<&str> = self.parts.iter().map(|(table, _)| table.as_str()).collect();
        names.join(", ")
    }
}

/// A select as SQL.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: String,
    arguments: Vec<Argument>,
    pub(super) checks: Vec<ValueCheck>,
    /// What stands where in its rows.
    pub(super) layout: Layout,
    /// The tables, separated by commas, if COPY is to run it: it asks for as many rows as there are, and has no parameters.
    pub(super) copied_from: Option<String>,
}

impl Statement {
    pub(super) fn build(select: &Select, columns: &[Column], source: &Source) -> Result<Self, StoreError> {
        let mut builder = Builder {
            columns,
            rows: rows_of(source, columns),
            what: &source.what,
            arguments: Vec::new(),
            checks: Vec::new(),
        };
        let wanted = if select.columns.is_empty() {
            columns.to_vec()
        } else {
            select
                .columns
                .iter()
                .map(|name| builder.column(name).cloned())
                .collect::<Result<_, _>>()?
        };
        let mut conditions = Vec::new();
        if let Some(condition) = &select.condition {
            conditions.push(builder.condition(condition)?);
        }
        if let Some(after) = &select.after {
            conditions.push(builder.behind(&select.order, after)?);
        }
        let condition = if conditions.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", conditions.join(" AND "))
        };
        let mut with = String::new();
        let picked = format!("(SELECT * FROM ({}) source{condition})", builder.rows);
        let mut from = format!("{picked} picked");
        if let Some(max) = select.max_resources {
            let limit = builder.argument(Argument::Number(max.max(0)));
            // Only where it is named twice: PostgreSQL makes one scan of its parts where nothing stands between.
            with = format!(
                "WITH picked AS NOT MATERIALIZED {picked}, \
                 latest AS (SELECT _rid AS _latest FROM picked GROUP BY _rid ORDER BY max(_updated) DESC, _rid LIMIT {limit}) "
            );
            from = "picked JOIN latest ON _latest = _rid".into();
        }
        let limit = match select.limit {
            Some(limit) => format!(" LIMIT {}", builder.argument(Argument::Number(limit.max(0)))),
            None => String::new(),
        };
        if select.count_only {
            let sql = format!(
                "{with}SELECT {} AS _live, count(*) FROM (SELECT FROM {from}{limit}) counted",
                row::BATCH
            );
            return Ok(Self::of(builder, sql, Layout::of_columns(vec![count::column()])));
        }
        let order = builder.order(select)?;
        let list = wanted.iter().fold(String::new(), |mut list, column| {
            let _ = write!(list, ", {}", tables::quoted(&column.name));
            list
        });
        let layout = Layout {
            // Whoever limits the resources wants to know whether the limit was met.
            with_resource: select.max_resources.is_some(),
            key_columns: select.with_keys.then_some(select.order.len()),
            ..Layout::of_columns(wanted)
        };
        let mut places = String::new();
        if layout.with_resource {
            places.push_str(", _rid");
        }
        if select.with_keys {
            places.push_str(", _rid, _row");
            for (number, by) in select.order.iter().enumerate() {
                let _ = write!(places, ", {}::text AS _key{number}", tables::quoted(&by.column));
            }
        }
        let sql = format!("{with}SELECT _live{list}{places} FROM {from}{order}{limit}");
        Ok(Self {
            copied_from: builder.arguments.is_empty().then(|| source.tables()),
            ..Self::of(builder, sql, layout)
        })
    }

    pub(super) fn of(builder: Builder<'_>, sql: String, layout: Layout) -> Self {
        Self {
            sql,
            arguments: builder.arguments,
            checks: builder.checks,
            layout,
            copied_from: None,
        }
    }

    /// The SQL with a first row that has the view's freshness alone: one statement, so one snapshot (law 3). It is missing if the view is not of this
    /// definition any more. Two more parameters: the view's name and the definition's hash.
    ///
    /// That it is the first row is PostgreSQL's way of running `UNION ALL` (a plain Append, since the connections of the store have no parallel workers);
    /// whoever reads the rows looks whether it is so.
    pub(super) fn with_freshness(&mut self, name: &str, hash: &str) {
        let (name, hash) = if self.copied_from.is_some() {
            (tables::literal(name), tables::literal(hash))
        } else {
            self.arguments.push(Argument::Text(name.to_owned()));
            self.arguments.push(Argument::Text(hash.to_owned()));
            let count = self.arguments.len();
            (format!("${}", count - 1), format!("${count}"))
        };
        self.sql = format!(
            "SELECT {}timestamptz_send(coalesce(t.published_as_of, '-infinity')) || \
             timestamptz_send(coalesce(t.speed_as_of, '-infinity')) || \
             int8send((SELECT count(*) FROM sqlonfhir_meta.error WHERE view = {name})) || uuid_send(v.batch_state) AS _known \
             FROM sqlonfhir_meta.view v LEFT JOIN sqlonfhir_meta.resource_type t ON t.type = v.resource_type \
             WHERE v.name = {name} AND v.hash = {hash} AND v.state IN ('active', 'stale') \
             UNION ALL SELECT r.*, NULL FROM ({}) r",
            "NULL, ".repeat(self.layout.width()),
            self.sql
        );
    }

    /// The values, to be bound.
    pub(super) fn arguments(&self) -> Result<PgArguments, StoreError> {
        bound(&self.arguments)
    }
}

/// All rows of a source, with their layer.
fn rows_of(source: &Source, columns: &[Column]) -> String {
    let list = tables::all_columns(columns);
    let parts: Vec<String> = source
        .parts
        .iter()
        .map(|(table, live)| {
            let layer = if *live { row::LIVE } else { row::BATCH };
            format!("SELECT {layer} AS _live, {list} FROM {table}")
        })
        .collect();
    parts.join(" UNION ALL ")
}

#[cfg(test)]
mod tests {
    use fhir_core::column::ColumnKind;

    use super::*;
    use crate::{Condition, Operator};

    fn column(name: &str, kind: ColumnKind, collection: bool) -> Column {
        Column {
            name: name.into(),
            kind,
            collection,
            ..count::column()
        }
    }

    fn build(condition: Condition) -> Result<Statement, StoreError> {
        let columns = [
            column("Name", ColumnKind::Text, false),
            column("n", ColumnKind::Integer, false),
            column("codes", ColumnKind::Text, true),
        ];
        let select = Select {
            condition: Some(condition),
            ..Select::all(Relation::Merged("v".into()))
        };
        let source = Source::of(&select.relation).expect("tables");
        Statement::build(&select, &columns, &source)
    }

    fn compare(column: &str, operator: Operator, values: &[&str]) -> Condition {
        Condition::Compare {
            column: column.into(),
            operator,
            values: values.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn values_never_become_sql() {
        let evil = "'; DROP TABLE x; --";
        let statement = build(Condition::All(vec![
            compare("Name", Operator::Equal, &[evil]),
            compare("codes", Operator::In, &[evil, "b"]),
            Condition::ResourceId(vec![evil.into()]),
        ]))
        .expect("a statement");
        assert!(!statement.sql.contains("DROP"));
        assert_eq!(statement.arguments.len(), 3);
    }

    #[test]
    fn unknown_columns_are_named_with_those_that_exist() {
        let error = build(compare("nme", Operator::Equal, &["x"])).expect_err("unknown");
        assert_eq!(
            error.to_string(),
            "view v has no column nme; it has: Name, n, codes"
        );
    }

    #[test]
    fn values_that_are_not_plain_are_checked_first() {
        assert!(
            build(compare("n", Operator::Equal, &["12"]))
                .expect("a statement")
                .checks
                .is_empty()
        );
        assert_eq!(
            build(compare("n", Operator::Equal, &["x"]))
                .expect("a statement")
                .checks
                .len(),
            1
        );
        assert!(build(compare("n", Operator::Like, &["1%"])).is_err());
        assert!(build(compare("n", Operator::Equal, &[])).is_err());
        assert!(build(compare("Name", Operator::Like, &[r"100\\%\\"])).is_ok());
        assert!(build(compare("Name", Operator::Like, &[r"100\\\"])).is_err());
        assert!(build(Condition::ResourceId(vec!["a\0".into()])).is_err());
    }
}
