//! Conditions, orders and places over a source's columns, as SQL: quoted names, fixed words and numbered parameters.

use fhir_core::column::{Column, ColumnKind};

use super::values::{Argument, ValueCheck};
use super::{Condition, Operator, OrderBy, RowKey, Select};
use crate::{StoreError, numeric, tables};

/// Makes conditions and orders, and gathers the values that they compare with.
pub(super) struct Builder<'a> {
    pub(super) columns: &'a [Column],
    /// All rows, as SQL.
    pub(super) rows: String,
    pub(super) what: &'a str,
    pub(super) arguments: Vec<Argument>,
    pub(super) checks: Vec<ValueCheck>,
}

impl Builder<'_> {
    pub(super) fn argument(&mut self, argument: Argument) -> String {
        self.arguments.push(argument);
        format!("${}", self.arguments.len())
    }

    pub(super) fn column(&self, name: &str) -> Result<&Column, StoreError> {
        self.columns.iter().find(|c| c.name == name).ok_or_else(|| {
            let known: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
            StoreError::InvalidSelect(format!(
                "{} has no column {name}; it has: {}",
                self.what,
                known.join(", ")
            ))
        })
    }

    pub(super) fn order(&self, select: &Select) -> Result<String, StoreError> {
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
    pub(super) fn behind(&mut self, order: &[OrderBy], after: &RowKey) -> Result<String, StoreError> {
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

    pub(super) fn condition(&mut self, condition: &Condition) -> Result<String, StoreError> {
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
