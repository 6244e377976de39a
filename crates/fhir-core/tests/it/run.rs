//! Short forms: a view, a resource, and rows as text.

use fhir_core::{
    fhirpath::error::Fault,
    row::{Cell, Rows},
    view::{CompiledView, EvalError, ViewErrors},
};
use serde_json::{Value, json};

/// Compiles a view of `Patient` with these selects.
pub(crate) fn view(select: &Value) -> CompiledView {
    try_view(&json!({"resource": "Patient", "select": select})).unwrap()
}

pub(crate) fn try_view(definition: &Value) -> Result<CompiledView, ViewErrors> {
    CompiledView::from_json(&definition.to_string())
}

pub(crate) fn try_rows(view: &CompiledView, resource: &Value) -> Result<Vec<Vec<Cell<'static>>>, EvalError> {
    let mut rows = Rows::default();
    let count = view.evaluate(resource.to_string().as_bytes(), &mut rows)?;
    assert_eq!(count, rows.0.len(), "the number of rows is told");
    Ok(rows.0)
}

/// Rows as text: `a|1|[x,y]|-`, a dash for null.
pub(crate) fn rows(view: &CompiledView, resource: &Value) -> Vec<String> {
    let rows = try_rows(view, resource).unwrap();
    rows.iter()
        .map(|row| row.iter().map(text).collect::<Vec<_>>().join("|"))
        .collect()
}

pub(crate) fn text(cell: &Cell<'_>) -> String {
    match cell {
        Cell::Null => "-".into(),
        Cell::Boolean(v) => v.to_string(),
        Cell::Integer(v) => v.to_string(),
        Cell::BigInt(v) => v.to_string(),
        Cell::Decimal(v) | Cell::Text(v) | Cell::Json(v) => v.to_string(),
        Cell::TimestampTz(v) => v.to_rfc3339(),
        Cell::Timestamp(v) => v.to_string(),
        Cell::Date(v) => v.to_string(),
        Cell::Time(v) => v.to_string(),
        Cell::Double(v) => v.to_string(),
        Cell::List(v) => format!("[{}]", v.iter().map(text).collect::<Vec<_>>().join(",")),
    }
}

/// The value of one path over a resource, as the list of all its items.
pub(crate) fn items(path: &str, resource: &Value) -> Result<String, EvalError> {
    let view = view(&json!([{"column": [{"name": "x", "path": path, "collection": true}]}]));
    Ok(text(&try_rows(&view, resource)?[0][0]))
}

/// Checks paths over a resource against their items; tells all that differ.
pub(crate) fn check_items(cases: &[(&str, &str)], resource: &Value) {
    let wrong: Vec<_> = cases
        .iter()
        .filter_map(|(path, expected)| {
            let found = items(path, resource);
            (found.as_deref() != Ok(*expected)).then(|| format!("{path}: {found:?}, not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Checks paths over a resource against what fails.
pub(crate) fn check_faults(cases: &[(&str, Fault)], resource: &Value) {
    for (path, fault) in cases {
        let expected = EvalError::Column {
            column: "x".into(),
            fault: *fault,
        };
        assert_eq!(items(path, resource), Err(expected), "{path}");
    }
}
