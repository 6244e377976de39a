//! Runs a SQL on FHIR test suite: a folder of files in the format of the official one.
//!
//! Strict: error cases get the resources too, rows are compared as a multiset with exactly the expected keys, columns in order where the
//! case states it. One line for each failing case; the last line is `N passed, M failed`; exit code 1 if one failed.
#![expect(clippy::print_stdout, reason = "the report is this program's output")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use fhir_core::{
    column::Column,
    fhirpath::temporal::Temporal,
    number::compare_lexical,
    row::{Cell, Rows},
    view::CompiledView,
};
use serde_json::Value;

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1).filter(|f| !f.is_empty()).map(PathBuf::from) else {
        println!("usage: conformance <folder of the suite>");
        return ExitCode::from(2);
    };
    match suite(&folder) {
        Ok((passed, failed)) => {
            println!("{passed} passed, {failed} failed");
            if failed == 0 && passed > 0 {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            println!("{}: {error}", folder.display());
            ExitCode::from(2)
        }
    }
}

fn suite(folder: &Path) -> Result<(usize, usize), Box<dyn std::error::Error>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|f| f.extension().is_some_and(|e| e == "json"));
    files.sort();
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let content: Value = serde_json::from_slice(&fs::read(&file)?)?;
        // The folder also holds the schema of its files.
        let Some(cases) = content.get("tests").and_then(Value::as_array) else {
            continue;
        };
        let resources: Vec<String> = list(&content, "resources")
            .iter()
            .map(ToString::to_string)
            .collect();
        for case in cases {
            match check(case, &resources) {
                Ok(()) => passed += 1,
                Err(reason) => {
                    failed += 1;
                    let file = file.file_name().unwrap_or_default().to_string_lossy();
                    println!(
                        "FAILED {file}: {}: {reason}",
                        case["title"].as_str().unwrap_or("?")
                    );
                }
            }
        }
    }
    Ok((passed, failed))
}

fn list<'v>(value: &'v Value, member: &str) -> &'v [Value] {
    value
        .get(member)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn check(case: &Value, resources: &[String]) -> Result<(), String> {
    let expects_error = case.get("expectError").and_then(Value::as_bool).unwrap_or(false);
    match (run(&case["view"].to_string(), resources), expects_error) {
        (Err(_), true) => Ok(()),
        (Err(error), false) => Err(error),
        (Ok(_), true) => Err("an error is expected".into()),
        (Ok((view, rows)), false) => compare(case, &view, &rows),
    }
}

fn run(view: &str, resources: &[String]) -> Result<(CompiledView, Rows), String> {
    let view = CompiledView::from_json(view).map_err(|e| e.to_string())?;
    let mut rows = Rows::default();
    for resource in resources {
        view.evaluate(resource.as_bytes(), &mut rows)
            .map_err(|e| e.to_string())?;
    }
    Ok((view, rows))
}

fn compare(case: &Value, view: &CompiledView, rows: &Rows) -> Result<(), String> {
    let columns = view.columns();
    if let Some(expected) = case.get("expectColumns").and_then(Value::as_array) {
        let found: Vec<_> = columns.iter().map(|c| Value::from(c.name.as_str())).collect();
        if *expected != found {
            return Err(format!("columns are {found:?}"));
        }
    }
    if let Some(count) = case.get("expectCount").and_then(Value::as_u64)
        && rows.0.len() as u64 != count
    {
        return Err(format!("{} rows, {count} expected", rows.0.len()));
    }
    if case.get("expect").is_none() {
        let other = ["expectColumns", "expectCount"]
            .iter()
            .any(|name| case.get(*name).is_some());
        return if other {
            Ok(())
        } else {
            Err("the case expects nothing".into())
        };
    }
    let mut expected: Vec<&Value> = list(case, "expect").iter().collect();
    for row in &rows.0 {
        let Some(i) = expected
            .iter()
            .position(|expected| same_row(columns, row, expected))
        else {
            return Err(format!("unexpected row {row:?}"));
        };
        expected.swap_remove(i);
    }
    expected
        .first()
        .map_or(Ok(()), |row| Err(format!("missing row {row}")))
}

fn same_row(columns: &[Column], row: &[Cell<'_>], expected: &Value) -> bool {
    let Some(expected) = expected.as_object() else {
        return false;
    };
    expected.len() == columns.len()
        && columns
            .iter()
            .zip(row)
            .all(|(column, cell)| expected.get(&column.name).is_some_and(|v| same(column, cell, v)))
}

fn same(column: &Column, cell: &Cell<'_>, expected: &Value) -> bool {
    match (cell, expected) {
        (Cell::Null, Value::Null) => true,
        (Cell::Boolean(a), Value::Bool(b)) => a == b,
        (Cell::Integer(a), Value::Number(b)) => compare_lexical(&a.to_string(), &b.to_string()).is_eq(),
        (Cell::BigInt(a), Value::Number(b)) => compare_lexical(&a.to_string(), &b.to_string()).is_eq(),
        (Cell::Decimal(a), Value::Number(b)) => compare_lexical(a, &b.to_string()).is_eq(),
        (Cell::Text(a), Value::String(b)) => a == b,
        // A column without a type is text, whatever its values are.
        (Cell::Text(a), Value::Number(b)) => {
            column.fhir_type.is_none()
                && a.parse::<f64>().is_ok()
                && compare_lexical(a, &b.to_string()).is_eq()
        }
        (Cell::Text(a), Value::Bool(b)) => column.fhir_type.is_none() && **a == b.to_string(),
        (Cell::TimestampTz(a), Value::String(b)) => Temporal::date(b).and_then(Temporal::moment) == Some(*a),
        (Cell::Json(a), b) => serde_json::from_str::<Value>(a).is_ok_and(|a| a == *b),
        (Cell::List(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(column, a, b))
        }
        _ => false,
    }
}
