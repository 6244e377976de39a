//! The SQL of a cohort: sets of patients as nested selects. What must be in all sets is joined by `EXISTS`, what must be in none by `NOT EXISTS`: PostgreSQL makes semi- and
//! anti-joins of them, in the order that suits, and looks patients up by the indexes of key columns where few are left. (`INTERSECT` and `EXCEPT` would read
//! and sort every set whole.) Duplicates are left until the end.

use fhir_core::column::Column;
use sqlx::postgres::PgArguments;

use super::{CohortSelect, KeyColumn, KeyForm, PatientKey, PatientRows, Patients};
use crate::StoreError;
use crate::select::conditions::condition_sql;
use crate::select::values::{self, Argument, ValueCheck};
use crate::tables::{self, Table};

/// A view as the snapshot has it.
pub(super) struct Seen<'a> {
    pub(super) hash: &'a str,
    pub(super) columns: &'a [Column],
    pub(super) resource_type: &'a str,
}

/// A cohort as SQL: ids, each with how many there are, or that number alone.
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) checks: Vec<ValueCheck>,
    arguments: Vec<Argument>,
}

struct Builder<F> {
    seen: F,
    merged: bool,
    /// Aliases given so far.
    aliases: usize,
    arguments: Vec<Argument>,
    checks: Vec<ValueCheck>,
}

impl Statement {
    /// `seen` knows the views.
    pub(super) fn build<'a>(
        select: &CohortSelect,
        seen: impl Fn(&str) -> Option<Seen<'a>>,
    ) -> Result<Self, StoreError> {
        let mut builder = Builder {
            seen,
            merged: select.merged,
            aliases: 0,
            arguments: Vec::new(),
            checks: Vec::new(),
        };
        let found = builder.set(&select.patients)?;
        let distinct = format!("(SELECT DISTINCT _patient FROM ({found}) found) counted");
        let sql = if select.count_only {
            format!("SELECT count(*) FROM {distinct}")
        } else {
            let limit = match select.limit {
                Some(limit) => format!(" LIMIT {}", builder.argument(Argument::Number(limit))),
                None => String::new(),
            };
            // Counted before the limit.
            format!(
                "SELECT _patient, count(*) OVER () FROM {distinct} ORDER BY _patient COLLATE \"C\"{limit}"
            )
        };
        Ok(Self {
            sql,
            checks: builder.checks,
            arguments: builder.arguments,
        })
    }

    /// The values, as the driver takes them.
    pub(super) fn bound(&self) -> Result<PgArguments, StoreError> {
        values::bound(&self.arguments)
    }
}

impl<'a, F: Fn(&str) -> Option<Seen<'a>>> Builder<F> {
    fn argument(&mut self, argument: Argument) -> String {
        self.arguments.push(argument);
        format!("${}", self.arguments.len())
    }

    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("_p{}", self.aliases)
    }

    /// A select of the one column `_patient`, never null, maybe with doubles.
    fn set(&mut self, patients: &Patients) -> Result<String, StoreError> {
        match patients {
            Patients::OfRows(rows) => self.rows(rows),
            Patients::Any(sets) => {
                let sets: Vec<String> = sets.iter().map(|set| self.set(set)).collect::<Result<_, _>>()?;
                if sets.is_empty() {
                    return Err(StoreError::InvalidSelect("a union needs at least one set".into()));
                }
                Ok(sets.join(" UNION ALL "))
            }
            Patients::All { of, without } => {
                let Some((first, others)) = of.split_first() else {
                    return Err(StoreError::InvalidSelect(
                        "an intersection needs at least one set".into(),
                    ));
                };
                let outer = self.alias();
                let first = self.set(first)?;
                let mut conditions = Vec::new();
                for (set, test) in others
                    .iter()
                    .map(|set| (set, "EXISTS"))
                    .chain(without.iter().map(|set| (set, "NOT EXISTS")))
                {
                    let inner = self.alias();
                    let set = self.set(set)?;
                    conditions.push(format!(
                        "{test} (SELECT FROM ({set}) {inner} WHERE {inner}._patient = {outer}._patient)"
                    ));
                }
                let condition = if conditions.is_empty() {
                    String::new()
                } else {
                    format!(" WHERE {}", conditions.join(" AND "))
                };
                Ok(format!(
                    "SELECT {outer}._patient FROM ({first}) {outer}{condition}"
                ))
            }
        }
    }

    fn rows(&mut self, rows: &PatientRows) -> Result<String, StoreError> {
        let Some(seen) = (self.seen)(&rows.view) else {
            return Err(StoreError::Inconsistent(format!(
                "view {} is not in the snapshot of its cohort",
                rows.view
            )));
        };
        if seen.hash != rows.hash {
            return Err(StoreError::ViewsChanged {
                resource_type: seen.resource_type.to_owned(),
            });
        }
        let list = tables::all_columns(seen.columns);
        let other = if self.merged { Table::Live } else { Table::Shadowed };
        let (base, other) = (Table::Base.of(&rows.view), other.of(&rows.view));
        let all = format!("SELECT {list} FROM {base} UNION ALL SELECT {list} FROM {other}");
        let source = format!("({all}) source");
        let condition = match &rows.condition {
            Some(condition) => {
                let what = format!("view {}", rows.view);
                let (arguments, checks) = (&mut self.arguments, &mut self.checks);
                let sql = condition_sql(condition, seen.columns, &all, &what, arguments, checks)?;
                format!("{sql} AND ")
            }
            None => String::new(),
        };
        let key = match &rows.key {
            PatientKey::OwnId => "_rid".to_owned(),
            PatientKey::Columns(columns) => match &columns[..] {
                [] => return Err(StoreError::InvalidSelect("rows need a column of patients".into())),
                [column] if !is_collection(column, seen.columns)? => {
                    in_form(column.form, &format!("{}::text", tables::quoted(&column.name)))
                }
                columns => {
                    let parts = columns
                        .iter()
                        .map(|column| keys_of(column, seen.columns))
                        .collect::<Result<Vec<_>, _>>()?;
                    let keys = parts.join(" UNION ALL ");
                    return Ok(format!(
                        "SELECT _patient FROM {source} CROSS JOIN LATERAL ({keys}) keys(_patient) WHERE {condition}_patient IS NOT NULL"
                    ));
                }
            },
        };
        Ok(format!(
            "SELECT {key} AS _patient FROM {source} WHERE {condition}{key} IS NOT NULL"
        ))
    }
}

fn is_collection(key: &KeyColumn, columns: &[Column]) -> Result<bool, StoreError> {
    columns
        .iter()
        .find(|column| column.name == key.name)
        .map(|column| column.collection)
        .ok_or_else(|| StoreError::InvalidSelect(format!("there is no column {}", key.name)))
}

/// The patients that a row's column names, as a select within the row.
fn keys_of(key: &KeyColumn, columns: &[Column]) -> Result<String, StoreError> {
    let name = tables::quoted(&key.name);
    Ok(if is_collection(key, columns)? {
        format!(
            "SELECT {} FROM unnest({name}) member",
            in_form(key.form, "member::text")
        )
    } else {
        format!("SELECT {}", in_form(key.form, &format!("{name}::text")))
    })
}

/// The id in a value, as SQL; null where there is none.
fn in_form(form: KeyForm, value: &str) -> String {
    const ID: &str = "([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?$";
    match form {
        KeyForm::Id => value.to_owned(),
        KeyForm::Reference => format!("substring({value} FROM '^Patient/{ID}')"),
        KeyForm::IdOrReference => format!("substring({value} FROM '^(?:Patient/)?{ID}')"),
    }
}

#[cfg(test)]
mod tests {
    use fhir_core::column::ColumnKind;

    use super::*;
    use crate::{Condition, Operator};

    fn rows(view: &str, key: PatientKey, value: &str) -> Patients {
        Patients::OfRows(PatientRows {
            view: view.into(),
            hash: "h".into(),
            key,
            condition: Some(Condition::Compare {
                column: "code".into(),
                operator: Operator::Equal,
                values: vec![value.into()],
            }),
        })
    }

    fn by(name: &str, form: KeyForm) -> PatientKey {
        PatientKey::Columns(vec![KeyColumn {
            name: name.into(),
            form,
        }])
    }

    fn build(patients: Patients, limit: Option<i64>) -> Result<Statement, StoreError> {
        let columns = [
            Column::new("patient_id", ColumnKind::Text),
            Column::new("code", ColumnKind::Text),
        ];
        let select = CohortSelect {
            patients,
            merged: true,
            count_only: false,
            limit,
        };
        Statement::build(&select, |_| {
            Some(Seen {
                hash: "h",
                columns: &columns,
                resource_type: "Condition",
            })
        })
    }

    #[test]
    fn values_never_become_sql_and_are_numbered_over_all_sets() {
        let evil = "'; DROP TABLE x; --";
        let patients = Patients::All {
            of: vec![
                rows("a", by("patient_id", KeyForm::Id), evil),
                Patients::Any(vec![
                    rows("b", PatientKey::OwnId, "2"),
                    rows("c", PatientKey::OwnId, "3"),
                ]),
            ],
            without: vec![rows("d", by("patient_id", KeyForm::Reference), "4")],
        };
        let statement = build(patients, Some(7)).expect("a statement");
        assert!(!statement.sql.contains("DROP"), "{}", statement.sql);
        let values = ["1", "2", "3", "4", "5"].map(|n| statement.sql.matches(&format!("${n}")).count());
        assert_eq!(values, [1; 5], "{}", statement.sql);
        assert_eq!(statement.arguments[4], Argument::Number(7));
    }

    #[test]
    fn a_view_of_another_definition_is_not_asked() {
        let Patients::OfRows(mut of) = rows("a", PatientKey::OwnId, "x") else {
            unreachable!()
        };
        of.hash = "older".into();
        assert!(matches!(
            build(Patients::OfRows(of), None),
            Err(StoreError::ViewsChanged { .. })
        ));
        assert!(build(rows("a", by("nothing", KeyForm::Id), "x"), None).is_err());
        assert!(build(Patients::Any(vec![]), None).is_err());
    }
}
