//! This crate's answer: the one cell of a view with the expression as its one column.

use fhir_core::{
    row::{Cell, Rows},
    view::CompiledView,
};
use serde_json::{Value, json};

use crate::{Failure, answer::Answer};

/// Evaluates an expression on a resource.
pub(crate) fn answer(resource: &str, expression: &str) -> Result<Answer, Failure> {
    let of_type: Value = serde_json::from_str(resource)?;
    // A column of a type that is not primitive takes every item, as JSON.
    let column = json!({"name": "items", "path": expression, "collection": true, "type": "Element"});
    let view = json!({"resource": of_type["resourceType"], "select": [{"column": [column]}]});
    let view = match CompiledView::from_json(&view.to_string()) {
        Ok(view) => view,
        Err(errors) => return Ok(Answer::Error(errors.to_string())),
    };
    let mut rows = Rows::default();
    if let Err(error) = view.evaluate(resource.as_bytes(), &mut rows) {
        return Ok(Answer::Error(error.to_string()));
    }
    let [row] = rows.0.as_slice() else {
        return Err(format!("{} rows of {expression}", rows.0.len()).into());
    };
    let [Cell::List(items)] = row.as_slice() else {
        return Err(format!("no list of {expression}").into());
    };
    let items = items.iter().map(|item| match item {
        // What is no JSON differs from all that the peer can say.
        Cell::Json(json) => serde_json::from_str(json).unwrap_or_else(|_| format!("not JSON: {json}").into()),
        other => format!("not JSON: {other:?}").into(),
    });
    Ok(Answer::Items(items.collect()))
}
