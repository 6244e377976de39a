//! The views that are shipped compile, and say what a reader needs to know.

use std::{collections::BTreeSet, fs, path::PathBuf};

use fhir_core::{row::Rows, view::CompiledView};

fn views() -> Vec<(String, CompiledView)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/views");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|file| {
            let view = CompiledView::from_json(&fs::read_to_string(&file).unwrap());
            let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
            (stem.clone(), view.unwrap_or_else(|e| panic!("{stem}: {e}")))
        })
        .collect()
}

#[test]
fn every_view_compiles_and_is_described() {
    let views = views();
    let names: BTreeSet<_> = views.iter().map(|(stem, _)| stem.as_str()).collect();
    for name in [
        "condition_simple",
        "encounter_simple",
        "observation_lab",
        "patient_demographics",
        "patient_simple",
    ] {
        assert!(names.contains(name), "{name}");
    }
    for (stem, view) in &views {
        assert_eq!(view.name(), stem, "a view's file is named after it");
        assert!(view.url().is_some() && view.description().is_some(), "{stem}");
        for column in view.columns() {
            assert!(
                column.fhir_type.is_some() && column.description.is_some(),
                "{stem}.{}",
                column.name
            );
        }
    }
}

#[test]
fn one_row_a_patient_with_what_is_known_of_a_death() {
    let (_, view) = views()
        .into_iter()
        .find(|(stem, _)| stem == "patient_simple")
        .unwrap();
    let deceased = view.columns().iter().position(|c| c.name == "deceased").unwrap();
    for (body, expected) in [
        (r#"{"resourceType":"Patient","id":"a"}"#, "Null"),
        (
            r#"{"resourceType":"Patient","id":"a","deceasedBoolean":true}"#,
            "Boolean(true)",
        ),
        (
            r#"{"resourceType":"Patient","id":"a","deceasedBoolean":false}"#,
            "Boolean(false)",
        ),
        (
            r#"{"resourceType":"Patient","id":"a","deceasedDateTime":"2019-03"}"#,
            "Boolean(true)",
        ),
    ] {
        let mut rows = Rows::default();
        assert_eq!(view.evaluate(body.as_bytes(), &mut rows), Ok(1));
        assert_eq!(format!("{:?}", rows.0[0][deceased]), expected, "{body}");
    }
}
