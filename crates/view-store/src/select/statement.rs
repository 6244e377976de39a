//! The SQL of a select: made of quoted names, fixed words and numbered parameters; values only ever travel as parameters.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use fhir_core::column::{Column, ColumnKind};

use super::{Condition, Operator, Select};
use crate::{StoreError, numeric, tables};

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

    pub(super) fn two(base: &str, other: &str, other_is_live: bool, what: &str) -> Self {
        Self {
            parts: vec![(base.into(), false), (other.into(), other_is_live)],
            what: what.into(),
        }
    }
}

/// A select as SQL.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) arguments: Vec<Argument>,
    pub(super) checks: Vec<ValueCheck>,
    /// Of the answer.
    pub(super) columns: Vec<Column>,
    /// The layer follows the columns.
    pub(super) with_layer: bool,
}

struct Builder<'a> {
    columns: &'a [Column],
    what: &'a str,
    arguments: Vec<Argument>,
    checks: Vec<ValueCheck>,
}

impl Statement {
    pub(super) fn build(select: &Select, columns: &[Column], source: &Source) -> Result<Self, StoreError> {
        let mut builder = Builder {
            columns,
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
        let condition = match &select.condition {
            Some(condition) => format!(" WHERE {}", builder.condition(condition)?),
            None => String::new(),
        };
        let mut with = format!(
            "WITH picked AS NOT MATERIALIZED ({}{condition})",
            rows_of(source, columns)
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
            let sql = format!("{with} SELECT count(*) FROM (SELECT FROM {from}{limit}) counted");
            return Ok(builder.finish(sql, vec![count_column()], false));
        }
        let order = builder.order(select)?;
        let list = wanted.iter().fold(String::new(), |mut list, column| {
            let _ = write!(list, "{}, ", tables::quoted(&column.name));
            list
        });
        // Whoever limits the resources wants to know whether the limit was met.
        let resource = if select.max_resources.is_some() {
            ", _rid"
        } else {
            ""
        };
        let sql = format!("{with} SELECT {list}_live{resource} FROM {from}{order}{limit}");
        Ok(builder.finish(sql, wanted, true))
    }
}

/// All rows of a source, with their layer.
fn rows_of(source: &Source, columns: &[Column]) -> String {
    let list = tables::all_columns(columns);
    let parts: Vec<String> = source
        .parts
        .iter()
        .map(|(table, live)| format!("SELECT {list}, {live} AS _live FROM {table}"))
        .collect();
    format!("SELECT * FROM ({}) source", parts.join(" UNION ALL "))
}

fn count_column() -> Column {
    Column::new("count", ColumnKind::BigInt)
}

impl Builder<'_> {
    fn finish(self, sql: String, columns: Vec<Column>, with_layer: bool) -> Statement {
        Statement {
            sql,
            arguments: self.arguments,
            checks: self.checks,
            columns,
            with_layer,
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
        if keys.is_empty() && select.limit.is_none() {
            return Ok(String::new());
        }
        keys.push("_rid, _row".into());
        Ok(format!(" ORDER BY {}", keys.join(", ")))
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

/// A condition over columns that go by their plain names, in a statement with these arguments so far, which it adds to.
pub(crate) fn condition_sql(
    condition: &Condition,
    columns: &[Column],
    what: &str,
    arguments: &mut Vec<Argument>,
    checks: &mut Vec<ValueCheck>,
) -> Result<String, StoreError> {
    let mut builder = Builder {
        columns,
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
            relation: Relation::Merged("v".into()),
            columns: vec![],
            condition: Some(condition),
            max_resources: None,
            order: vec![],
            limit: None,
            count_only: false,
        };
        Statement::build(&select, &columns, &Source::two("b", "l", true, "view v"))
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
