//! Questions that work as they are. None names a value of a row: they are made from definitions alone.

use fhir_core::column::{Column, ColumnKind};
use serde_json::{Value, json};

use crate::{
    catalog::{View, Views},
    cohort::plan::patient_key,
};

/// Columns of an example.
const COLUMNS: usize = 3;

/// A `QueryRequest`: some columns, those rows in which the last of them has a value.
pub(super) fn query(view: &View) -> String {
    let columns: Vec<&str> = view
        .compiled
        .columns()
        .iter()
        .take(COLUMNS)
        .map(|column| column.name.as_str())
        .collect();
    let mut request = json!({"view": view.registered.name, "columns": columns, "limit": "10"});
    if let Some(last) = columns.last() {
        request["filters"] = json!([{"comparison": {"column": last, "operator": "OPERATOR_IS_NOT_NULL"}}]);
    }
    request.to_string()
}

/// A `CohortRequest`: the patients of this view's rows, without those of another view where there is one.
pub(super) fn cohort(view: &View, others: &Views) -> String {
    let criterion = |view: &View| json!({"criterion": {"view": view.registered.name}});
    let other = others.all().find(|other| {
        other.is_materialized()
            && patient_key(other).is_some()
            && other.registered.resource_type != "Patient"
            && other.registered.name != view.registered.name
    });
    let criteria: Value = match other {
        Some(other) => json!({"all": {"criteria": [criterion(view), {"negation": criterion(other)}]}}),
        None => criterion(view),
    };
    json!({"criteria": criteria, "limit": "10"}).to_string()
}

/// A SELECT over the merged view: how often each value of a column occurs.
pub(super) fn sql(view: &View) -> Option<String> {
    if !view.is_materialized() {
        return None;
    }
    let columns = || view.compiled.columns().iter();
    let is_code = |column: &&Column| column.fhir_type.as_deref() == Some("code") && !column.collection;
    let name = quoted(&view.registered.name);
    let grouped = columns()
        .find(is_code)
        .or_else(|| columns().find(|column| column.kind != ColumnKind::Json));
    Some(match grouped {
        Some(column) => {
            let column = quoted(&column.name);
            format!(
                "SELECT {column}, count(*) FROM sqlonfhir.{name} GROUP BY {column} ORDER BY count(*) DESC LIMIT 10"
            )
        }
        None => format!("SELECT count(*) FROM sqlonfhir.{name}"),
    })
}

/// Names of views and columns as SQL takes them exactly.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
