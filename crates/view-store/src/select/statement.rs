//! The SQL of a select: made of quoted names, fixed words and numbered parameters; values only ever travel as parameters.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use fhir_core::column::{Column, ColumnKind};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, PgConnection};

use super::row::Layout;
use super::{Condition, Operator, OrderBy, Relation, RowKey, Select};
use crate::driver::sqlstate;
use crate::error::during;
use crate::tables::{self, Table};
use crate::{StoreError, numeric};

/// A parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Argument {
    Text(String),
    Texts(Vec<String>),
    Number(i64),
    Time(DateTime<Utc>),
}

/// Values that PostgreSQL must be asked about before they are used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ValueCheck {
    pub(super) column: String,
    pub(super) sql_type: String,
    pub(super) values: Vec<String>,
}

impl ValueCheck {
    /// Whether PostgreSQL reads the values as the column's type.
    pub(super) async fn run(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let sql = format!("SELECT ($1::text[])::{}[] IS NULL", self.sql_type);
        let checked = sqlx::query(AssertSqlSafe(sql))
            .bind(&self.values)
            .execute(connection)
            .await;
        match checked {
            Ok(_) => Ok(()),
            Err(error) if sqlstate(&error).is_some_and(|code| code.starts_with("22")) => {
                Err(StoreError::InvalidSelect(format!(
                    "a value for column {} is not a valid {}",
                    self.column, self.sql_type
                )))
            }
            Err(error) => Err(during("checking a condition's values")(error)),
        }
    }
}

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
}

/// A select as SQL.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: String,
    arguments: Vec<Argument>,
    pub(super) checks: Vec<ValueCheck>,
    /// What stands where in its rows.
    pub(super) layout: Layout,
}

struct Builder<'a> {
    columns: &'a [Column],
    /// All rows, as SQL.
    rows: String,
    what: &'a str,
    arguments: Vec<Argument>,
    checks: Vec<ValueCheck>,
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
        let mut with = format!(
            "WITH picked AS NOT MATERIALIZED (SELECT * FROM ({}) source{condition})",
            builder.rows
        );
        let mut from = "picked".to_owned();
        if let Some(max) = select.max_resources {
            let limit = builder.argument(Argument::Number(max.max(0)));
            let _ = write!(
                with,
                ", latest AS (SELECT _rid AS _latest FROM picked GROUP BY _rid ORDER BY max(_updated) DESC, _rid LIMIT {limit})"
            );
            from = "picked JOIN latest ON _latest = _rid".into();
        }
        let limit = match select.limit {
            Some(limit) => format!(" LIMIT {}", builder.argument(Argument::Number(limit.max(0)))),
            None => String::new(),
        };
        if select.count_only {
            let sql =
                format!("{with} SELECT count(*), false AS _live FROM (SELECT FROM {from}{limit}) counted");
            return Ok(builder.finish(sql, Layout::of_columns(vec![count_column()])));
        }
        let order = builder.order(select)?;
        let list = wanted.iter().fold(String::new(), |mut list, column| {
            let _ = write!(list, "{}, ", tables::quoted(&column.name));
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
        let sql = format!("{with} SELECT {list}_live{places} FROM {from}{order}{limit}");
        Ok(builder.finish(sql, layout))
    }

    /// The SQL with the view's freshness beside each row: one statement, so one snapshot (law 3). A row comes in any case, unless the view is not of this
    /// definition any more. Two more parameters: the view's name and the definition's hash.
    pub(super) fn with_freshness(&mut self, name: &str, hash: &str) {
        self.arguments.push(Argument::Text(name.to_owned()));
        self.arguments.push(Argument::Text(hash.to_owned()));
        let (name, hash) = (self.arguments.len() - 1, self.arguments.len());
        // OFFSET 0: it is made once, not for each row.
        self.sql = format!(
            "SELECT r.*, k._known FROM (SELECT timestamptz_send(coalesce(t.published_as_of, '-infinity')) || \
             timestamptz_send(coalesce(t.speed_as_of, '-infinity')) || \
             int8send((SELECT count(*) FROM sqlonfhir_meta.error WHERE view = ${name})) AS _known \
             FROM sqlonfhir_meta.view v LEFT JOIN sqlonfhir_meta.resource_type t ON t.type = v.resource_type \
             WHERE v.name = ${name} AND v.hash = ${hash} AND v.state IN ('active', 'stale') OFFSET 0) k LEFT JOIN ({}) r ON true",
            self.sql
        );
    }

    /// The values, to be bound.
    pub(super) fn arguments(&self) -> Result<PgArguments, StoreError> {
        bound(&self.arguments)
    }
}

/// Values as the driver takes them.
pub(crate) fn bound(values: &[Argument]) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Argument::Text(value) => arguments.add(value),
            Argument::Texts(values) => arguments.add(values),
            Argument::Number(value) => arguments.add(value),
            Argument::Time(value) => arguments.add(value),
        }
        .map_err(|_| StoreError::InvalidSelect("a value is too long".into()))?;
    }
    Ok(arguments)
}

/// All rows of a source, with their layer.
fn rows_of(source: &Source, columns: &[Column]) -> String {
    let list = tables::all_columns(columns);
    let parts: Vec<String> = source
        .parts
        .iter()
        .map(|(table, live)| format!("SELECT {list}, {live} AS _live FROM {table}"))
        .collect();
    parts.join(" UNION ALL ")
}

fn count_column() -> Column {
    Column::new("count", ColumnKind::BigInt)
}

impl Builder<'_> {
    fn finish(self, sql: String, layout: Layout) -> Statement {
        Statement {
            sql,
            arguments: self.arguments,
            checks: self.checks,
            layout,
        }
    }

    fn argument(&mut self, argument: Argument) -> String {
        self.arguments.push(argument);
        format!("${}", self.arguments.len())
    }

    fn column(&self, name: &str) -> Result<&Column, StoreError> {
        self.columns.iter().find(|c| c.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
            StoreError::InvalidSelect(format!(
                "{} has no column {name}; it has: {}",
                self.what,
                known.join(", ")
            ))
        })
    }

    fn order(&self, select: &Select) -> Result<String, StoreError> {
        let mut keys = Vec::new();
        for by in &select.order {
            let column = tables::quoted(&self.column(&by.column)?.name);
            keys.push(format!(
                "{column} {} NULLS LAST",
                if by.descending { "DESC" } else { "ASC" }
            ));
        }
        // The most recently updated resources come first where nothing else is asked.
        if keys.is_empty() && select.max_resources.is_some() {
            keys.push("_updated DESC".into());
        }
        if keys.is_empty() && select.limit.is_none() && !select.with_keys {
            return Ok(String::new());
        }
        keys.push("_rid, _row".into());
        Ok(format!(" ORDER BY {}", keys.join(", ")))
    }

    /// Rows behind a place in the order: by the last key that differs, nulls last either way.
    fn behind(&mut self, order: &[OrderBy], after: &RowKey) -> Result<String, StoreError> {
        if order.len() != after.order.len() || after.order.iter().flatten().any(|value| value.contains('\0'))
        {
            return Err(StoreError::InvalidSelect(
                "the place is not one of this order".into(),
            ));
        }
        let id = self.argument(Argument::Text(after.id.clone()));
        let row = self.argument(Argument::Number(after.row.into()));
        let mut behind = format!("(_rid, _row) > ({id}, {row})");
        for (by, value) in order.iter().zip(&after.order).rev() {
            let column = self.column(&by.column)?.clone();
            let name = tables::quoted(&column.name);
            behind = match value {
                None => format!("({name} IS NULL AND {behind})"),
                Some(value) => {
                    self.check_later(&column, std::slice::from_ref(value));
                    let value = self.argument(Argument::Text(value.clone()));
                    let value = format!("{value}::text::{}", comparison_type(column.kind));
                    let later = if by.descending { "<" } else { ">" };
                    format!("({name} {later} {value} OR {name} IS NULL OR ({name} = {value} AND {behind}))")
                }
            };
        }
        Ok(behind)
    }

    fn condition(&mut self, condition: &Condition) -> Result<String, StoreError> {
        Ok(match condition {
            Condition::Compare {
                column,
                operator,
                values,
            } => self.compare(column, *operator, values)?,
            Condition::ResourceId(ids) if ids.iter().any(|id| id.contains('\0')) => {
                return Err(StoreError::InvalidSelect(
                    "an id of a resource holds a NUL character".into(),
                ));
            }
            Condition::ResourceId(ids) => format!(
                "_rid = ANY ({}::text[])",
                self.argument(Argument::Texts(ids.clone()))
            ),
            Condition::UpdatedSince(at) => format!("_updated >= {}", self.argument(Argument::Time(*at))),
            Condition::All(conditions) => self.joined(conditions, " AND ", "true")?,
            Condition::Any(conditions) => self.joined(conditions, " OR ", "false")?,
            Condition::Not(condition) => format!("({}) IS NOT TRUE", self.condition(condition)?),
            Condition::NoRowOfResource(condition) => {
                // Names within are those of the other row.
                let condition = self.condition(condition)?;
                format!(
                    "NOT EXISTS (SELECT FROM ({}) other WHERE other._rid = source._rid AND ({condition}))",
                    self.rows
                )
            }
        })
    }

    fn joined(&mut self, conditions: &[Condition], word: &str, none: &str) -> Result<String, StoreError> {
        let parts: Vec<String> = conditions
            .iter()
            .map(|c| self.condition(c))
            .collect::<Result<_, _>>()?;
        Ok(if parts.is_empty() {
            none.into()
        } else {
            format!("({})", parts.join(word))
        })
    }

    fn compare(&mut self, name: &str, operator: Operator, values: &[String]) -> Result<String, StoreError> {
        let column = self.column(name)?.clone();
        let quoted = tables::quoted(&column.name);
        // Of an operand, a parameter and the column's type.
        let comparison: fn(&str, &str, &str) -> String = match operator {
            Operator::IsNull => return Ok(format!("{quoted} IS NULL")),
            Operator::IsNotNull => return Ok(format!("{quoted} IS NOT NULL")),
            Operator::Equal => |operand, value, of| format!("{operand} = {value}::text::{of}"),
            Operator::NotEqual => |operand, value, of| format!("{operand} <> {value}::text::{of}"),
            Operator::Less => |operand, value, of| format!("{operand} < {value}::text::{of}"),
            Operator::LessOrEqual => |operand, value, of| format!("{operand} <= {value}::text::{of}"),
            Operator::Greater => |operand, value, of| format!("{operand} > {value}::text::{of}"),
            Operator::GreaterOrEqual => |operand, value, of| format!("{operand} >= {value}::text::{of}"),
            Operator::In => |operand, value, of| format!("{operand} = ANY ({value}::text[]::{of}[])"),
            Operator::Like => |operand, value, _| format!("{operand} LIKE {value}::text"),
            Operator::ContainsText => {
                |operand, value, _| format!("position(lower({value}::text) IN lower({operand})) > 0")
            }
        };
        if operator != Operator::In && values.len() != 1 {
            return Err(StoreError::InvalidSelect(format!(
                "a condition on column {name} has {} values; this operator takes one (use IN for several)",
                values.len()
            )));
        }
        if matches!(operator, Operator::Like | Operator::ContainsText) && column.kind != ColumnKind::Text {
            return Err(StoreError::InvalidSelect(format!(
                "column {name} is {}; only text can be matched by a pattern",
                column.sql_type()
            )));
        }
        if values.iter().any(|v| v.contains('\0')) {
            return Err(StoreError::InvalidSelect(format!(
                "a value for column {name} holds a NUL character"
            )));
        }
        let escapes = |pattern: &String| pattern.len() - pattern.trim_end_matches('\\').len();
        if operator == Operator::Like && values.iter().any(|pattern| escapes(pattern) % 2 == 1) {
            return Err(StoreError::InvalidSelect(format!(
                "the pattern for column {name} ends with a backslash that escapes nothing; write it twice"
            )));
        }
        self.check_later(&column, values);
        let value = match operator {
            Operator::In => self.argument(Argument::Texts(values.to_vec())),
            _ => self.argument(Argument::Text(values[0].clone())),
        };
        let sql_type = comparison_type(column.kind);
        Ok(if column.collection {
            let any = comparison("member", &value, &sql_type);
            format!("EXISTS (SELECT FROM unnest({quoted}) member WHERE {any})")
        } else {
            comparison(&quoted, &value, &sql_type)
        })
    }

    /// Asks PostgreSQL about values where it is not plain that it will take them.
    fn check_later(&mut self, column: &Column, values: &[String]) {
        let plain = |value: &String| match column.kind {
            ColumnKind::Text => true,
            ColumnKind::Boolean => matches!(value.as_str(), "true" | "false"),
            ColumnKind::Integer => value.parse::<i32>().is_ok(),
            ColumnKind::BigInt => value.parse::<i64>().is_ok(),
            ColumnKind::Decimal | ColumnKind::DecimalOf { .. } => numeric::fits(value),
            _ => false,
        };
        if !values.iter().all(plain) {
            let sql_type = comparison_type(column.kind);
            self.checks.push(ValueCheck {
                column: column.name.clone(),
                sql_type,
                values: values.to_vec(),
            });
        }
    }
}

/// A condition over columns that go by their plain names, of a `source` with these rows, in a statement with these arguments so far, which it adds to.
pub(crate) fn condition_sql(
    condition: &Condition,
    columns: &[Column],
    rows: &str,
    what: &str,
    arguments: &mut Vec<Argument>,
    checks: &mut Vec<ValueCheck>,
) -> Result<String, StoreError> {
    let mut builder = Builder {
        columns,
        rows: rows.to_owned(),
        what,
        arguments: std::mem::take(arguments),
        checks: std::mem::take(checks),
    };
    let sql = builder.condition(condition);
    (*arguments, *checks) = (builder.arguments, builder.checks);
    sql
}

/// The type that values are read as: without a column's precision and scale, which would round the value.
fn comparison_type(kind: ColumnKind) -> String {
    match kind {
        ColumnKind::DecimalOf { .. } => ColumnKind::Decimal.sql_name(),
        other => other.sql_name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Relation;

    fn column(name: &str, kind: ColumnKind, collection: bool) -> Column {
        Column {
            name: name.into(),
            kind,
            collection,
            ..count_column()
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
