//! Definitions that are refused: which place, which rule, and all of them at once.

use serde_json::{Value, json};

use crate::run::try_view;

/// The places and rules that a definition breaks.
fn errors(definition: &Value) -> Vec<(String, String)> {
    let errors = try_view(definition).expect_err("the definition is refused").0;
    errors
        .into_iter()
        .map(|e| (e.at.clone(), e.rule.to_string()))
        .collect()
}

fn check(definition: &Value, at: &str, part: &str) {
    let errors = errors(definition);
    assert!(
        errors.len() == 1 && errors[0].0 == at && errors[0].1.contains(part),
        "{definition}: {errors:?}"
    );
}

fn select(select: &Value) -> Value {
    json!({"resource": "Patient", "select": [select]})
}

fn column(name: &str) -> Value {
    json!({"name": name, "path": "id"})
}

#[test]
fn shapes() {
    let good = json!([{"column": [column("id")]}]);
    check(&json!({"select": good}), "resource", "is missing");
    check(&json!({"resource": "Patient"}), "select", "is missing");
    check(
        &json!({"resource": "Patient", "select": []}),
        "select",
        "selects nothing",
    );
    check(
        &json!({"resource": "Patient", "select": {}}),
        "select",
        "must be a list of objects",
    );
    check(
        &json!({"resource": "Patient", "select": [1]}),
        "select[0]",
        "must be an object",
    );
    check(
        &json!({"resource": 1, "select": good}),
        "resource",
        "must be a string",
    );
    check(
        &json!({"resource": "patient", "select": good}),
        "resource",
        "resource type",
    );
    check(
        &json!({"resource": "Patient", "select": good, "resourceType": "Patient"}),
        "resourceType",
        "ViewDefinition",
    );
    check(
        &select(&json!({"forEach": 1, "column": [column("id")]})),
        "select[0].forEach",
        "must be a string",
    );
    check(
        &select(&json!({"column": [{"name": "a"}]})),
        "select[0].column[0].path",
        "is missing",
    );
    check(
        &select(&json!({"column": [{"path": "id"}]})),
        "select[0].column[0].name",
        "is missing",
    );
    check(
        &select(&json!({"column": [{"name": "a", "path": "id", "collection": "yes"}]})),
        "select[0].column[0].collection",
        "true or false",
    );
    check(
        &select(&json!({"repeat": "item", "column": [column("id")]})),
        "select[0].repeat",
        "list of expressions",
    );
    check(
        &select(&json!({"repeat": [], "column": [column("id")]})),
        "select[0].repeat",
        "list of expressions",
    );
    check(
        &select(&json!({"forEach": "name"})),
        "select[0]",
        "selects nothing",
    );
    check(
        &select(&json!({"select": [{}]})),
        "select[0].select[0]",
        "selects nothing",
    );
    check(
        &json!({"resource": "Patient", "select": good, "where": [{}]}),
        "where[0].path",
        "is missing",
    );
    assert_eq!(errors(&json!({})).len(), 2);
    for text in ["", "[]", "nonsense", "{\"resource\": }"] {
        assert!(fhir_core::view::CompiledView::from_json(text).is_err(), "{text}");
    }
}

#[test]
fn names() {
    for name in ["1a", "a-b", "a b", "_a", "ä", "a.b", "a\"b"] {
        check(
            &select(&json!({"column": [column(name)]})),
            "select[0].column[0].name",
            "sql-name",
        );
        let view = json!({"name": name, "resource": "Patient", "select": [{"column": [column("id")]}]});
        check(&view, "name", "sql-name");
    }
    let long = "a".repeat(64);
    check(
        &select(&json!({"column": [column(&long)]})),
        "select[0].column[0].name",
        "63 bytes",
    );
    for name in ["freshness", "errors", "Errors"] {
        let view = json!({"name": name, "resource": "Patient", "select": [{"column": [column("id")]}]});
        check(&view, "name", "reserved");
    }
    check(
        &select(&json!({"column": [column("ctid")]})),
        "select[0].column[0].name",
        "reserved",
    );
    assert!(
        try_view(&select(
            &json!({"column": [column("A"), column("a"), column("select")]})
        ))
        .is_ok()
    );
}

#[test]
fn duplicates_wherever_they_are() {
    check(
        &select(&json!({"column": [column("a"), column("a")]})),
        "select[0].column[1].name",
        "'a' is already the name of select[0].column[0]",
    );
    check(
        &select(&json!({"column": [column("a")], "select": [{"column": [column("a")]}]})),
        "select[0].select[0].column[0].name",
        "already",
    );
    check(
        &select(&json!({"column": [column("a")], "unionAll": [{"column": [column("a")]}]})),
        "select[0].unionAll[0].column[0].name",
        "already",
    );
    let across =
        json!({"resource": "Patient", "select": [{"column": [column("a")]}, {"column": [column("a")]}]});
    check(&across, "select[1].column[0].name", "already");
}

#[test]
fn one_iteration_a_select() {
    check(
        &select(&json!({"forEach": "a", "forEachOrNull": "a", "column": [column("id")]})),
        "select[0]",
        "has forEach and forEachOrNull",
    );
    check(
        &select(&json!({"forEach": "a", "repeat": ["a"], "column": [column("id")]})),
        "select[0]",
        "has forEach and repeat",
    );
}

#[test]
fn branches_of_a_union() {
    let union = |a: Value, b: Value| select(&json!({"unionAll": [{"column": a}, {"column": b}]}));
    check(
        &union(json!([column("a")]), json!([column("b")])),
        "select[0].unionAll[1]",
        "columns are b, the first branch's are a",
    );
    check(
        &union(
            json!([column("a"), column("b")]),
            json!([column("b"), column("a")]),
        ),
        "select[0].unionAll[1]",
        "same order",
    );
    check(
        &union(json!([column("a")]), json!([column("a"), column("b")])),
        "select[0].unionAll[1]",
        "columns are a, b",
    );
    let typed = |of_type: &str| json!([{"name": "a", "path": "v", "type": of_type}]);
    check(
        &union(typed("string"), typed("integer")),
        "select[0].unionAll[1].column[0]",
        "is integer, in the first branch string",
    );
    check(
        &union(typed("string"), typed("code")),
        "select[0].unionAll[1].column[0]",
        "same type",
    );
    let list = json!([{"name": "a", "path": "v", "collection": true}]);
    check(
        &union(json!([column("a")]), list),
        "select[0].unionAll[1].column[0]",
        "a collection of text",
    );
    // A branch that declares no type takes the other's.
    let view = try_view(&union(json!([{"name": "a", "path": "v"}]), typed("integer"))).unwrap();
    assert_eq!(view.columns()[0].sql_type(), "integer");
}

#[test]
fn constants() {
    let with = |constant: Value| json!({"resource": "Patient", "constant": [constant], "select": [{"column": [column("id")]}]});
    check(&with(json!({"name": "c"})), "constant[0]", "no value");
    check(
        &with(json!({"name": "c", "valueString": "a", "valueCode": "b"})),
        "constant[0]",
        "several values",
    );
    check(
        &with(json!({"name": "c", "valueQuantity": {}})),
        "constant[0]",
        "type that constants do not have",
    );
    check(
        &with(json!({"name": "c", "valueInteger": "x"})),
        "constant[0].valueInteger",
        "is no integer",
    );
    check(
        &with(json!({"name": "c", "valueDate": "2020-99"})),
        "constant[0].valueDate",
        "is no date",
    );
    for (member, value, told) in [
        ("valueDate", json!("2020-01-01T10:00:00Z"), "is no date"),
        ("valueInstant", json!("2020"), "is no instant"),
        ("valueInstant", json!("2020-01-01T10:00:00"), "is no instant"),
        ("valuePositiveInt", json!(0), "is no positiveInt"),
        ("valueUnsignedInt", json!(-1), "is no unsignedInt"),
        ("valueInteger", json!(3_000_000_000_i64), "is no integer"),
        ("valueDateTime", json!("2020-01-01T10:00"), "with an offset"),
        ("valueDateTime", json!("2020-01-01T10:00:00"), "is no dateTime"),
        ("valueTime", json!("10:30"), "write hh:mm:ss"),
        ("valueId", json!("a b"), "1 to 64 letters"),
        ("valueCode", json!("a  b"), "single spaces"),
        ("valueCode", json!(" a"), "is no code"),
        ("valueUri", json!("a b"), "without spaces"),
        ("valueUrl", json!(""), "is no url"),
        ("valueCanonical", json!("a\tb"), "is no canonical"),
        ("valueOid", json!("1.2.3"), "urn:oid:"),
        ("valueOid", json!("urn:oid:1.02"), "is no oid"),
        ("valueUuid", json!("urn:uuid:0C3151BD"), "urn:uuid:"),
        ("valueBase64Binary", json!("a"), "padding"),
    ] {
        let mut constant = json!({"name": "c"});
        constant[member] = value;
        check(&with(constant), &format!("constant[0].{member}"), told);
    }
    check(
        &with(json!({"name": "c", "valueMarkdown": "a"})),
        "constant[0]",
        "type that constants do not have",
    );
    for (member, value) in [
        ("valueDateTime", "2020-01"),
        ("valueDateTime", "2020-01-01T10:00:00.5+01:00"),
        ("valueTime", "10:30:00.123"),
        ("valueId", "a-1.B"),
        ("valueCode", "a b"),
        ("valueUri", "urn:a"),
        ("valueOid", "urn:oid:1.2.0.34"),
        ("valueUuid", "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"),
        ("valueBase64Binary", "dGVz\ndA=="),
        ("valueInteger64", "9007199254740993"),
    ] {
        let mut constant = json!({"name": "c"});
        constant[member] = json!(value);
        assert!(try_view(&with(constant)).is_ok(), "{member} {value}");
    }
    check(
        &with(json!({"name": "1c", "valueString": "a"})),
        "constant[0].name",
        "sql-name",
    );
    check(
        &with(json!({"name": "rowIndex", "valueString": "a"})),
        "constant[0].name",
        "reserved",
    );
    check(
        &with(json!({"valueString": "a"})),
        "constant[0].name",
        "is missing",
    );
    check(
        &select(&json!({"column": [{"name": "a", "path": "name[%i]"}]})),
        "select[0].column[0].path",
        "undefined constant %i",
    );
}

#[test]
fn tags() {
    let tagged = |member: &str, value: &str| {
        select(
            &json!({"column": [{"name": "a", "path": "id", member: [{"name": "ansi/type", "value": value}]}]}),
        )
    };
    check(
        &tagged("tag", "BLOB"),
        "select[0].column[0].tag[0].value",
        "unknown ansi/type",
    );
    check(
        &tagged("tags", "BLOB"),
        "select[0].column[0].tags[0].value",
        "unknown ansi/type",
    );
    assert!(try_view(&tagged("tag", "bigint")).is_ok());
}

#[test]
fn all_errors_are_told_in_one_go() {
    let definition = json!({
        "name": "bad-name",
        "resource": "Patient",
        "constant": [{"name": "c"}],
        "where": [{"path": "nosuch()"}],
        "select": [
            {"column": [{"name": "a", "path": "%undefined"}, {"name": "a", "path": "id"}]},
            {"forEach": "@@", "column": [{"name": "b c", "path": "("}]}
        ]
    });
    let places: Vec<_> = errors(&definition).into_iter().map(|(at, _)| at).collect();
    assert_eq!(
        places,
        [
            "name",
            "select[1].column[0].name",
            "constant[0]",
            "where[0].path",
            "select[0].column[0].path",
            "select[1].forEach",
            "select[1].column[0].path",
            "select[0].column[1].name"
        ]
    );
    let told = try_view(&definition).unwrap_err().to_string();
    assert!(
        told.starts_with("invalid ViewDefinition: name: is no sql-name"),
        "{told}"
    );
    assert!(!told.contains('\n'));
}

#[test]
fn what_changes_no_row_is_tolerated() {
    for resource_type in [
        json!("ViewDefinition"),
        json!("https://sql-on-fhir.org/ig/StructureDefinition/ViewDefinition"),
    ] {
        for identifier in [json!({"value": "a"}), json!([{"value": "a"}])] {
            let view = try_view(&json!({
                "resourceType": resource_type, "identifier": identifier, "url": "http://example.org/v", "name": "v", "status": "draft",
                "fhirVersion": ["4.0.1"], "resourceDefinition": "x", "experimental": true, "title": "A title",
                "resource": "Patient", "select": [{"column": [column("id")], "unknown": 1}]
            }))
            .unwrap();
            assert_eq!(
                (view.name(), view.url(), view.description()),
                ("v", Some("http://example.org/v"), Some("A title"))
            );
        }
    }
}

#[test]
fn size_is_bounded() {
    let nested = |levels: usize| {
        let first = json!({"column": [column("id")]});
        (1..levels).fold(first, |inner, _| json!({"select": [inner]}))
    };
    assert!(fhir_core::view::CompiledView::from_json(&select(&nested(32)).to_string()).is_ok());
    let errors = errors(&select(&nested(33)));
    assert!(
        matches!(errors.as_slice(), [(_, rule)] if rule.contains("nested deeper")),
        "{errors:?}"
    );
    let many: Vec<_> = (0..101)
        .map(|i| json!({"forEach": "name", "column": [column(&format!("c{i}"))]}))
        .collect();
    check(
        &json!({"resource": "Patient", "select": many}),
        "select",
        "split the view",
    );
    let wide: Vec<_> = (0..1501).map(|i| column(&format!("c{i}"))).collect();
    check(&select(&json!({"column": wide})), "select", "1,500 columns");
}

/// However many parts a definition has, it is compiled or refused at once.
#[test]
fn long_definitions_are_told_at_once() {
    const MANY: usize = 20_000;
    let of = |select: &Value| json!({"resource": "Patient", "select": select});
    let selects: Vec<_> = (0..MANY).map(|_| json!({})).collect();
    let columns: Vec<_> = (0..MANY).map(|i| column(&format!("c{i}"))).collect();
    let wide: Vec<_> = columns[..1_000].to_vec();
    let branches: Vec<_> = (0..MANY).map(|_| json!({"column": [column("z")]})).collect();
    let iterated: Vec<_> = (0..MANY)
        .map(|_| json!({"forEach": "name", "column": [column("z")]}))
        .collect();
    let constants: Vec<_> = (0..MANY)
        .map(|i| json!({"name": format!("c{i}"), "valueString": "x"}))
        .collect();
    let misspelt: Vec<_> = (0..MANY)
        .map(|i| json!({"name": format!("c{i}"), "path": "f("}))
        .collect();
    let long = json!({"name": "c", "valueString": "x".repeat(400_000)});
    let uses: Vec<_> = (0..1_000)
        .map(|i| json!({"name": format!("c{i}"), "path": vec!["%c"; 100].join("&")}))
        .collect();
    let patterns: Vec<_> = (0..1_000)
        .map(|i| json!({"name": format!("c{i}"), "path": format!("id.matches('\\\\w{{{}}}')", 20 + i)}))
        .collect();
    let totals = format!("{}1{}", "name.aggregate(".repeat(60), ")".repeat(60));
    let names = |of: char| {
        (0..3_000)
            .map(|i| format!("{of}{i}"))
            .collect::<Vec<_>>()
            .join("|")
    };
    let product = format!("({}).select({})", names('a'), names('b'));
    let far = format!("name.where('{}' = 'a')", "x".repeat(60_000));
    let nested = (0..10).fold(
        json!({"column": wide}),
        |inner, _| json!({"forEach": far, "select": [inner]}),
    );
    for (what, definition) in [
        ("selects", of(&json!(selects))),
        ("columns", of(&json!([{"column": columns}]))),
        ("branches", of(&json!([{"column": wide}, {"unionAll": branches}]))),
        ("iterations", of(&json!(iterated))),
        (
            "constants",
            json!({"resource": "Patient", "constant": constants, "select": [{"column": [column("a")]}]}),
        ),
        ("errors", of(&json!([{"column": misspelt}]))),
        (
            "uses of a constant",
            json!({"resource": "Patient", "constant": [long], "select": [{"column": uses}]}),
        ),
        ("patterns", of(&json!([{"column": patterns}]))),
        (
            "aggregates",
            of(&json!([{"column": [{"name": "x", "path": totals}]}])),
        ),
        (
            "products of names",
            of(&json!([{"column": [{"name": "x", "path": product}]}])),
        ),
        ("long iterations", of(&json!([nested]))),
    ] {
        let begun = std::time::Instant::now();
        let compiled = try_view(&definition);
        assert!(
            begun.elapsed() < std::time::Duration::from_secs(10),
            "{what}: {:?}",
            begun.elapsed()
        );
        if let Err(errors) = compiled {
            assert!(errors.0.len() <= 101, "{what}: {} errors", errors.0.len());
        }
    }
    let definition = of(&json!(selects));
    let told = try_view(&definition).unwrap_err().to_string();
    assert!(
        told.ends_with("there are more errors; correct these first"),
        "{}",
        &told[told.len() - 100..]
    );
}
