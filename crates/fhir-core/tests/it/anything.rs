//! What holds whatever comes in: rows or a typed error, never a panic, never endless. The property tests and the fuzz targets share it.

use std::sync::{Arc, LazyLock};

use fhir_core::{
    column::{Column, ColumnKind},
    json::{JsonError, Tape},
    row::{Cell, Rows},
    view::{CompiledView, EvalError, ViewSet},
};
use serde_json::{Value, json};

/// A resource in which every view finds something.
pub(crate) const PATIENT: &str = r#"{"resourceType":"Patient","id":"p1","active":true,"birthDate":"1970-06-01","_birthDate":{"extension":[{"url":"u","valueDateTime":"1970-06-01T10:00:00Z"}]},"name":[{"use":"official","family":"Ash","given":["Ada","Bo"],"_given":[null,{"id":"x"}]},{"use":"old"}],"extension":[{"url":"urn:score","valueDecimal":1.50},{"url":"urn:text","valueString":"a\u00e4\ud83d\ude00\\\n"}],"multipleBirthInteger":2,"contact":[{"telecom":[{"system":"phone","value":"1","rank":1}]}],"managingOrganization":{"reference":"Organization/o1"},"item":[{"linkId":"1","item":[{"linkId":"1.1"}]}]}"#;

/// Views that together use every operator.
pub(crate) static VIEWS: LazyLock<Vec<Arc<CompiledView>>> = LazyLock::new(views);

/// The same, over one reading.
static SET: LazyLock<ViewSet> = LazyLock::new(|| ViewSet::new(VIEWS.iter().cloned()));

/// Feeds `data` to a target: `resource`, `view` or `path`, as the data is.
pub(crate) fn check(target: &str, data: &[u8]) {
    match (target, std::str::from_utf8(data)) {
        ("resource", _) => resource(data),
        ("view", Ok(text)) => view(text),
        ("path", Ok(text)) => path(text),
        ("view" | "path", Err(_)) => {}
        _ => panic!("no target {target}"),
    }
}

fn views() -> Vec<Arc<CompiledView>> {
    let paths = [
        "name.where(use = 'official').first().family.first()",
        "extension('urn:score').value.ofType(decimal) * 2 / 3 - 1 + 0.5",
        "birthDate.extension('u').value.ofType(dateTime).first() > @1970-06-01T09:00:00+02:00",
        "birthDate < @2000-01-01 and active or gender = 'x' xor multipleBirth > 1 implies name.exists(use.empty())",
        "name.given.join('-')",
        "managingOrganization.getReferenceKey(Organization)",
        "name.given.skip(1).take(3).last()",
        "(name.family | name.given | id).count()",
        "iif(name.all(family.exists()), name[0].family, getResourceKey())",
        "name.tail().select(use).single() in ('old' | 'new')",
        "active.hasValue().not()",
        "name.given.select(upper() & '-' & length().toString() & substring(1, 2)).distinct().join('|').encode('hex')",
        "birthDate + multipleBirth.ofType(integer).toQuantity('months') > birthDate.toDateTime().highBoundary() - 1 day",
        "extension.value.ofType(decimal).select(sqrt() + exp() + ln().abs() + power(0.5) + round(1)).aggregate($total + $this, 0.0)",
        "contact.telecom.rank.aggregate(iif($total > $this, $total, $this)) ~ telecom.rank.max() or name ~ name.combine(name)",
        "extension.value.lowBoundary().precision().avg() div 2 mod 3 in (1 | 2.0 | @2020 | 'x')",
    ];
    // These touch all of the resource.
    let deep = [
        "descendants().where($this is string).select($this.replaceMatches('(a)', '<$1>').split('<')).isDistinct()",
        "('1 \\'mg\\''.toQuantity() * 2 / 3 'kg' ~ 1 'g').convertsToDecimal() implies type().name.matches(gender)",
        "repeat(item | contact).children().intersect(descendants()).exclude(name).subsetOf(children()).toString()",
    ];
    let columns = |paths: &[&str]| -> Vec<Value> {
        let columns = paths.iter().enumerate();
        columns
            .map(|(i, p)| json!({"name": format!("c{i}"), "path": p}))
            .collect()
    };
    let whole = json!([{"name": "e", "path": "extension", "type": "Extension", "collection": true}]);
    [
        json!({"resource": "Patient", "select": [{"column": columns(&paths)}]}),
        json!({"resource": "Patient", "where": [{"path": "active"}], "select": [
            {"column": whole},
            {"forEachOrNull": "name", "column": [{"name": "n", "path": "given", "collection": true, "type": "string"}],
             "unionAll": [{"forEach": "given", "column": [{"name": "u", "path": "$this"}]}, {"repeat": ["extension"], "column": [{"name": "u", "path": "url"}]}]},
            {"repeat": ["item", "contact"], "column": [{"name": "r", "path": "%rowIndex"}]},
            {"column": [
                {"name": "i", "path": "multipleBirth", "type": "integer"},
                {"name": "d", "path": "extension.value.ofType(decimal)", "tag": [{"name": "ansi/type", "value": "NUMERIC(5,1)"}]},
                {"name": "b", "path": "birthDate", "tag": [{"name": "ansi/type", "value": "DATE"}]},
                {"name": "t", "path": "birthDate.extension.value", "type": "instant"}
            ]}
        ]}),
        json!({"resource": "Patient", "select": [{"column": columns(&deep)}]}),
    ]
    .iter()
    .map(|definition| Arc::new(CompiledView::from_json(&definition.to_string()).expect("a view that compiles")))
    .collect()
}

/// Any bytes as a resource. What `serde_json` reads, this crate reads too, and means the same by it, whether a view reads it or several do
/// together.
fn resource(body: &[u8]) {
    let found: Vec<_> = VIEWS.iter().map(|view| rows(view, body)).collect();
    let Some(copy) = copy(body) else {
        return;
    };
    let mut tape = Tape::default();
    let together = SET.read(&mut tape, body);
    for (place, found) in found.into_iter().enumerate() {
        if found == Err(EvalError::Json(JsonError::TooDeep)) {
            continue;
        }
        let of_copy = rows(&VIEWS[place], copy.as_bytes());
        assert_eq!(found.is_ok(), of_copy.is_ok(), "{found:?} {of_copy:?}");
        if let (Ok(found), Ok(of_copy)) = (found, of_copy) {
            assert_eq!(found, of_copy, "of the copy");
            if let Ok(together) = &together {
                let mut rows = Rows::default();
                assert_eq!(
                    together.rows(place, &mut rows),
                    Ok(found.len()),
                    "together with others"
                );
                assert_eq!(held(rows.0, &VIEWS[place]), found, "together with others");
            }
        }
    }
}

/// Any text as a view: all that is wrong is told, with its place; what is accepted can be evaluated.
fn view(text: &str) {
    match CompiledView::from_json(text) {
        Ok(view) => {
            let mut patient = serde_json::from_str::<Value>(PATIENT).unwrap_or_default();
            patient["resourceType"] = view.resource_type().into();
            drop(rows(&view, PATIENT.as_bytes()));
            drop(rows(&view, patient.to_string().as_bytes()));
        }
        Err(errors) => {
            assert!(!errors.0.is_empty(), "an error says what is wrong");
            assert!(!errors.to_string().is_empty());
        }
    }
}

/// Any text as an expression: of a column, of iterations and of a filter. Apart, so that what fails in one is still evaluated in the others.
fn path(text: &str) {
    let column = |path| json!([{"name": "x", "path": path, "collection": true, "type": "Element"}]);
    for view in [
        json!({"resource": "Patient", "select": [{"column": column(text)}]}),
        json!({"resource": "Patient", "select": [{"forEachOrNull": text, "column": column("$this")}]}),
        json!({"resource": "Patient", "select": [{"repeat": [text], "column": [{"name": "x", "path": "$this"}, {"name": "i", "path": "%rowIndex"}]}]}),
        json!({"resource": "Patient", "where": [{"path": text}], "select": [{"column": column("id")}]}),
    ] {
        match CompiledView::from_json(&view.to_string()) {
            Ok(view) => drop(rows(&view, PATIENT.as_bytes())),
            Err(errors) => assert!(errors.0.iter().all(|e| !e.at.is_empty()), "{errors}"),
        }
    }
}

/// The rows, each cell of its column's kind; JSON cells as JSON, however it is spaced.
fn rows(view: &CompiledView, body: &[u8]) -> Result<Vec<Vec<Cell<'static>>>, EvalError> {
    let mut rows = Rows::default();
    let count = view.evaluate(body, &mut rows)?;
    assert_eq!(count, rows.0.len(), "the number of rows is told");
    Ok(held(rows.0, view))
}

fn held(mut rows: Vec<Vec<Cell<'static>>>, view: &CompiledView) -> Vec<Vec<Cell<'static>>> {
    for row in &mut rows {
        assert_eq!(
            row.len(),
            view.columns().len(),
            "every row has exactly the view's columns"
        );
        for (cell, column) in row.iter_mut().zip(view.columns()) {
            assert!(
                !column.collection || matches!(cell, Cell::List(_) | Cell::Null),
                "{} is a collection",
                column.name
            );
            hold(cell, column);
        }
    }
    rows
}

fn hold(cell: &mut Cell<'_>, column: &Column) {
    use ColumnKind as Kind;
    let fits = matches!(
        (column.kind, &*cell),
        (_, Cell::Null | Cell::List(_))
            | (Kind::Boolean, Cell::Boolean(_))
            | (Kind::Integer, Cell::Integer(_))
            | (Kind::BigInt, Cell::BigInt(_))
            | (Kind::Decimal | Kind::DecimalOf { .. }, Cell::Decimal(_))
            | (Kind::Text, Cell::Text(_))
            | (Kind::TimestampTz, Cell::TimestampTz(_))
            | (Kind::Timestamp, Cell::Timestamp(_))
            | (Kind::Date, Cell::Date(_))
            | (Kind::Time, Cell::Time(_))
            | (Kind::Double, Cell::Double(_))
            | (Kind::Json, Cell::Json(_))
    );
    assert!(fits, "column {} of {:?} got {cell:?}", column.name, column.kind);
    match cell {
        Cell::List(cells) => {
            assert!(column.collection, "{}", column.name);
            for cell in cells {
                assert!(!matches!(cell, Cell::List(_) | Cell::Null), "{}", column.name);
                hold(cell, column);
            }
        }
        Cell::Text(text) => assert!(!text.contains('\0'), "PostgreSQL stores no NUL"),
        Cell::Decimal(text) => {
            let number: Result<serde_json::Number, _> = serde_json::from_str(text);
            assert!(number.is_ok(), "a decimal is a JSON number: {text}");
        }
        Cell::Json(text) => {
            assert!(!text.contains("\\u0000"), "PostgreSQL stores no NUL");
            let value: Value = serde_json::from_str(text).expect("a JSON cell is JSON");
            *text = value.to_string().into();
        }
        _ => {}
    }
}

/// The same resource as `serde_json` writes it. None if it is none, or if what `serde_json` writes is not the same: of keys that come twice it keeps one, and
/// numbers with an exponent it writes its own way.
fn copy(body: &[u8]) -> Option<String> {
    let copy = serde_json::from_slice::<Value>(body).ok()?.to_string();
    (outside_of_strings(body) == outside_of_strings(copy.as_bytes())).then_some(copy)
}

/// How often each byte stands in a JSON text outside of strings, spaces not counted.
fn outside_of_strings(json: &[u8]) -> [u32; 256] {
    let (mut bytes, mut inside, mut escaped) = ([0; 256], false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            _ if !inside && !byte.is_ascii_whitespace() => bytes[usize::from(byte)] += 1,
            _ => {}
        }
    }
    bytes
}
