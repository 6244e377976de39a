//! Rule 10 for all views of a type: base rows wait in shadowed, the live rows are those of the state that is shown, and the ledger says so.

use std::fmt::Write as _;

use fhir_core::merge::{Entry, Mark};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{Cursor, Decided, bind_cursor, move_cursor_sql};
use crate::error::during;
use crate::insert::{self, COPY_ABOVE, ColumnArray};
use crate::tables::{self, Table};
use crate::{EvaluatedState, StoreError, TypeViews, ledger};

/// Parameters that stand before those of the views' rows: the ledger's, and the views' names.
const NAMES: usize = ledger::PARAMETERS + 1;

/// One statement for all tables, and for the cursor, if there is a mark to move it to; rows that are too many for a statement, and what cannot be evaluated, come by further ones.
pub(super) async fn show(
    connection: &mut PgConnection,
    views: &TypeViews,
    decided: &Decided<'_>,
    start: Cursor,
    mark: Option<Mark>,
) -> Result<(), StoreError> {
    if decided.shown.is_empty() {
        return Ok(());
    }
    let doing = during("applying live changes");
    let mut shown: Vec<(&str, &EvaluatedState, &Entry)> = decided
        .shown
        .iter()
        .map(|(id, (state, entry))| (*id, *state, entry))
        .collect();
    shown.sort_unstable_by_key(|(id, ..)| *id);
    let mut arrays: Vec<ColumnArray> = Vec::new();
    let (mut too_many, mut failures) = (Vec::new(), Vec::new());
    for (index, view) in views.views.iter().enumerate() {
        let mut tuples: Vec<&[u8]> = shown.iter().map(|(_, state, _)| state.rows_in(index)).collect();
        if tuples.iter().map(|tuple| tuple.len()).sum::<usize>() > COPY_ABOVE {
            too_many.push((view, std::mem::take(&mut tuples)));
        }
        arrays.extend(insert::arrays(&insert::row_fields(view.columns()), &tuples)?);
        failures.extend(
            shown
                .iter()
                .filter_map(|(_, state, _)| state.failure_in(index, view.name())),
        );
    }
    let names: Vec<&str> = views.views.iter().map(|view| view.name()).collect();
    let entries: Vec<(&str, &Entry)> = shown.iter().map(|(id, _, entry)| (*id, *entry)).collect();
    let mut query = ledger::bound(
        sqlx::query(AssertSqlSafe(statement(views, mark.is_some()))),
        &views.resource_type,
        &entries,
    )
    .bind(names);
    for array in arrays {
        query = query.bind(array);
    }
    if let Some(mark) = mark {
        query = bind_cursor(query, start, mark);
    }
    query.execute(&mut *connection).await.map_err(doing)?;
    for (view, tuples) in too_many {
        let live = Table::Live.of(view.name());
        insert::put_rows(connection, &live, view.columns(), &tuples).await?;
    }
    ledger::record_failures(connection, &views.resource_type, &failures).await
}

/// All parts see the tables as they were before: those of a table touch different rows of it. It carries the generation of the type's views, since a prepared statement must
/// not outlive its columns' types. With the cursor's parameters behind all others, if it moves.
fn statement(views: &TypeViews, moves_cursor: bool) -> String {
    let (mut parts, mut parameter) = (format!("/* {} */ WITH ", views.generation), NAMES + 1);
    for (i, view) in views.views.iter().enumerate() {
        let (fields, columns) = (
            insert::row_fields(view.columns()),
            tables::all_columns(view.columns()),
        );
        let [base, live, shadowed] = Table::ALL.map(|table| table.of(view.name()));
        let ids = ledger::IDS;
        // Writing to a String cannot fail.
        let _ = write!(
            parts,
            "moved{i} AS (DELETE FROM {base} WHERE _rid = ANY ({ids}) RETURNING {columns}), \
             waiting{i} AS (INSERT INTO {shadowed} ({columns}) SELECT {columns} FROM moved{i}), \
             over{i} AS (DELETE FROM {live} WHERE _rid = ANY ({ids})), \
             shown{i} AS ({}), ",
            insert::insert_sql(&live, &fields, parameter)
        );
        parameter += fields.len();
    }
    if moves_cursor {
        let _ = write!(parts, "cursor_moved AS ({}), ", move_cursor_sql(parameter));
    }
    let forget = ledger::forget_failures_sql(NAMES);
    format!("{parts}forgotten AS ({forget}) {}", ledger::PUT)
}
