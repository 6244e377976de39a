//! From the caller's text to what is run: parameters numbered, names of tables bound, everything checked.

use std::sync::Arc;

use api::{
    Code, ServiceError,
    sql::{SqlParameters, SqlQuestion, SqlValue},
};
use view_store::sql::{Edited, ParameterPlace, SqlArgument, SqlLayer};

use super::{
    check::{self, Found, KnownView},
    fault::{Checked, Fault},
    parser,
    tokens::Scanned,
};

/// A statement that may be run.
#[derive(Debug)]
pub(super) struct Statement {
    /// What is run.
    pub(super) text: String,
    pub(super) places: Vec<ParameterPlace>,
    pub(super) arguments: Vec<SqlArgument>,
    /// What it names.
    pub(super) found: Found,
    edits: Vec<Edited>,
}

impl Statement {
    /// The place in the caller's text of a place in what is run.
    pub(super) fn original(&self, at: usize) -> usize {
        self.edits.iter().rev().fold(at, |at, edit| edit.original(at))
    }
}

/// Reads and checks the statement of a question.
pub(super) async fn read(
    question: &SqlQuestion,
    known: Vec<KnownView>,
    layer: SqlLayer,
    max_bytes: usize,
) -> Result<Statement, ServiceError> {
    if question.statement.len() > max_bytes {
        let message = format!(
            "statement: has {} bytes; sql.max_statement_bytes is {max_bytes}: give long lists as one parameter, = ANY ($1)",
            question.statement.len()
        );
        return Err(ServiceError::new(Code::TooLarge, message));
    }
    let text: Arc<str> = question.statement.as_str().into();
    let (names, values): (Option<Vec<String>>, Vec<SqlValue>) = match &question.parameters {
        SqlParameters::Positional(values) => (None, values.clone()),
        SqlParameters::Named(pairs) => {
            let (names, values) = pairs.iter().cloned().unzip();
            (Some(names), values)
        }
    };
    let tables = question.tables.clone();
    let (of, count) = (text.clone(), values.len());
    let work = move || checked(&of, names.as_deref(), &tables, &known, layer, count);
    let read = parser::on_its_thread(work).await.ok_or_else(|| {
        tracing::error!("a statement could not be parsed: the parser's thread has failed");
        ServiceError::new(Code::Internal, "internal error: see the service's log")
    })?;
    let mut statement = read.map_err(|fault| fault.for_caller(&text))?;
    statement.arguments = values.into_iter().map(argument).collect();
    Ok(statement)
}

/// Everything that needs no database. Faults are at places of the caller's text.
fn checked(
    text: &str,
    names: Option<&[String]>,
    tables: &[(String, String)],
    known: &[KnownView],
    layer: SqlLayer,
    values: usize,
) -> Checked<Statement> {
    let mut edits: Vec<Edited> = Vec::new();
    if let Some(names) = names {
        edits.push(Scanned::of(text)?.numbered(names)?);
    }
    if !tables.is_empty() {
        let text = edits.last().map_or(text, Edited::text);
        let labelled = labelled(text, tables, layer).map_err(|fault| back(fault, &edits))?;
        edits.push(labelled);
    }
    let run = edits.last().map_or(text, Edited::text);
    let read = || {
        let scanned = Scanned::of(run)?;
        let tree = parser::parse(&scanned)?;
        let found = check::check(&tree, known, layer, values)?;
        Ok((scanned.text.to_owned(), scanned.places(), found))
    };
    let (text, places, found) = read().map_err(|fault| back(fault, &edits))?;
    Ok(Statement {
        text,
        places,
        arguments: Vec::new(),
        found,
        edits,
    })
}

fn back(fault: Fault, edits: &[Edited]) -> Fault {
    fault.back(|at| edits.iter().rev().fold(at, |at, edit| edit.original(at)))
}

/// Names of tables of the caller's own, as tables of a WITH before the statement. They are checked with it, as everything that is run.
fn labelled(text: &str, tables: &[(String, String)], layer: SqlLayer) -> Checked<Edited> {
    let scanned = Scanned::of(text)?;
    let tree = parser::parse(&scanned)?;
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let table = |(label, view): &(String, String)| {
        let from = format!("{}.{}", layer.schema(), quoted(view));
        format!("{} AS NOT MATERIALIZED (SELECT * FROM {from})", quoted(label))
    };
    let list = tables.iter().map(table).collect::<Vec<_>>().join(", ");
    let edit = match &tree.with_clause {
        None => (0..0, format!("WITH {list} ")),
        // A statement has one WITH at most: ours come first in its own.
        Some(with) => {
            let at = usize::try_from(with.location).unwrap_or_default();
            let after = scanned.after_with(at);
            (after..after, format!(" {list},"))
        }
    };
    Ok(Edited::of(scanned.text, &[edit]))
}

fn argument(value: SqlValue) -> SqlArgument {
    match value {
        SqlValue::Null => SqlArgument::Null,
        SqlValue::Boolean(value) => SqlArgument::Boolean(value),
        SqlValue::Integer(value) => SqlArgument::Integer(value),
        SqlValue::Decimal(text) => SqlArgument::Decimal(text),
        SqlValue::Text(text) => SqlArgument::Text(text),
        SqlValue::Timestamp(at) => SqlArgument::Timestamp(at),
        SqlValue::Json(text) => SqlArgument::Json(text),
        SqlValue::List(members) => SqlArgument::List(members.into_iter().map(argument).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<KnownView> {
        vec![KnownView {
            name: "patients".into(),
            is_materialized: true,
        }]
    }

    fn read(text: &str, names: Option<&[&str]>, tables: &[(&str, &str)]) -> Checked<Statement> {
        let names: Option<Vec<String>> =
            names.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let tables: Vec<(String, String)> = tables
            .iter()
            .map(|(label, view)| ((*label).to_owned(), (*view).to_owned()))
            .collect();
        let values = names.as_ref().map_or(0, Vec::len);
        checked(
            text,
            names.as_deref(),
            &tables,
            &known(),
            SqlLayer::Merged,
            values,
        )
    }

    #[test]
    fn labels_stand_for_views_wherever_the_statement_has_its_with() {
        let labels = [("p", "patients")];
        let with = "\"p\" AS NOT MATERIALIZED (SELECT * FROM sqlonfhir.\"patients\")";
        for (text, run) in [
            ("SELECT * FROM p;", format!("WITH {with} SELECT * FROM p")),
            (
                "WITH a AS (SELECT * FROM p) SELECT * FROM a",
                format!("WITH {with}, a AS (SELECT * FROM p) SELECT * FROM a"),
            ),
            (
                "(WITH RECURSIVE a AS (SELECT * FROM p) SELECT * FROM a) ORDER BY 1",
                format!("(WITH RECURSIVE {with}, a AS (SELECT * FROM p) SELECT * FROM a) ORDER BY 1"),
            ),
        ] {
            let statement = read(text, None, &labels).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
            assert_eq!(statement.text, run);
            assert!(statement.found.views.contains("patients"));
        }
        assert!(read("SELECT * FROM p", None, &[("p", "unknown")]).is_err());
        assert!(read("SELECT * FROM x", None, &[("x", "p\" , pg_authid --")]).is_err());
    }

    #[test]
    fn places_are_those_of_the_callers_text() {
        let text = "SELECT :b, :aa FROM p WHERE pg_sleep(1) IS NULL";
        let fault = read(text, Some(&["aa", "b"]), &[("p", "patients")]).expect_err("refused");
        assert_eq!(fault.at, text.find("pg_sleep"));
        let statement = read("SELECT :b, :aa FROM p", Some(&["aa", "b"]), &[("p", "patients")]).expect("SQL");
        let at = statement.text.rfind("FROM p").expect("there");
        assert_eq!(statement.original(at), 15);
        assert_eq!(
            statement
                .places
                .iter()
                .map(|place| place.number)
                .collect::<Vec<_>>(),
            [2, 1]
        );
    }
}
