//! Views as people write them, and what can be asked of them.

use super::*;

fn column(name: &str, path: &str) -> Column {
    Column {
        path: path.into(),
        ..Column::new(name, ColumnKind::Text)
    }
}

fn conditions() -> Bindings {
    Bindings::of(
        "conditions",
        "Condition",
        &[
            column("id", "getResourceKey()"),
            column("patient_id", "subject.getReferenceKey(Patient)"),
            column("system", "code.coding.system"),
            column("code", "code.coding.code"),
            column("first_code", "code.coding.first().code"),
            column("label", "code.text"),
            column("display", "code.coding.display"),
            column("clinical_status", "clinicalStatus.coding.first().code"),
            column("onset", "onset.ofType(dateTime)"),
        ],
    )
}

fn patients() -> Bindings {
    let mut alive = column("alive", "deceased.empty()");
    alive.kind = ColumnKind::Boolean;
    alive.tags = vec![("search-param".into(), "alive".into())];
    Bindings::of(
        "patients",
        "Patient",
        &[
            column("id", "getResourceKey()"),
            column("sex", "gender"),
            column("birth_date", "birthDate"),
            alive,
        ],
    )
}

fn shown(condition: &Condition) -> String {
    let list = |conditions: &[Condition], word: &str| {
        format!(
            "({})",
            conditions
                .iter()
                .map(shown)
                .collect::<Vec<_>>()
                .join(&format!(" {word} "))
        )
    };
    match condition {
        Condition::Compare {
            column,
            operator,
            values,
        } => format!("{column} {operator:?} {}", values.join(","))
            .trim_end()
            .into(),
        Condition::ResourceId(ids) => format!("id {}", ids.join(",")),
        Condition::UpdatedSince(at) => {
            format!("since {}", at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
        }
        Condition::All(all) => list(all, "and"),
        Condition::Any(any) => list(any, "or"),
        Condition::Not(inner) => format!("not {}", shown(inner)),
        Condition::NoRowOfResource(inner) => format!("no row with {}", shown(inner)),
    }
}

fn ask(bindings: &Bindings, name: &str, modifier: &str, values: &[&str]) -> Result<String, String> {
    let values: Vec<String> = values.iter().map(|v| (*v).to_owned()).collect();
    bindings
        .bind(name, modifier, &values)
        .map(|c| shown(&c))
        .map_err(|e| e.to_string())
}

#[test]
fn parameters_find_the_columns_of_their_element() {
    let c = conditions();
    assert_eq!(
        ask(&patients(), "gender", "", &["female"]).as_deref(),
        Ok("sex Equal female")
    );
    assert_eq!(
        ask(&patients(), "gender", "", &["female", "other"]).as_deref(),
        Ok("(sex Equal female or sex Equal other)")
    );
    assert_eq!(
        ask(&patients(), "gender", "not", &["male"]).as_deref(),
        Ok("not sex Equal male")
    );
    assert_eq!(
        ask(&c, "code", "not", &["urn:a|1"]).as_deref(),
        Ok("no row with (system Equal urn:a and code Equal 1)"),
        "a resource with another coding beside it is not meant"
    );
    assert_eq!(
        ask(&patients(), "alive", "", &["true"]).as_deref(),
        Ok("alive Equal true")
    );
    assert_eq!(
        ask(&patients(), "gender", "missing", &["true"]).as_deref(),
        Ok("(sex IsNull)")
    );
    assert_eq!(
        ask(&c, "patient", "", &["Patient/a.1"]).as_deref(),
        Ok("patient_id Equal a.1")
    );
    assert_eq!(
        ask(&c, "patient", "", &["a.1"]).as_deref(),
        Ok("patient_id Equal a.1")
    );
    assert_eq!(
        ask(&c, "subject", "", &["Patient/a.1"]).as_deref(),
        Ok("patient_id Equal a.1")
    );
    assert_eq!(
        ask(&c, "clinical-status", "", &["active"]).as_deref(),
        Ok("clinical_status Equal active")
    );
    assert_eq!(
        ask(&c, "code", "", &["44054006"]).as_deref(),
        Ok("(code Equal 44054006 or first_code Equal 44054006)")
    );
    assert_eq!(ask(&c, "_id", "", &["x", "y"]).as_deref(), Ok("id x,y"));
}

#[test]
fn a_code_with_its_system_needs_the_column_beside_it() {
    let c = conditions();
    assert_eq!(
        ask(&c, "code", "", &["http://snomed.info/sct|44054006"]).as_deref(),
        Ok("(system Equal http://snomed.info/sct and code Equal 44054006)")
    );
    assert_eq!(
        ask(&c, "code", "", &["|local"]).as_deref(),
        Ok("(system IsNull and code Equal local)")
    );
    assert_eq!(
        ask(&c, "code", "", &["http://snomed.info/sct|"]).as_deref(),
        Ok("system Equal http://snomed.info/sct")
    );
    let refused = ask(&c, "clinical-status", "", &["http://terminology|active"])
        .expect_err("no column holds the system");
    assert!(
        refused.contains("give the code alone") && !refused.contains("terminology"),
        "{refused}"
    );
}

#[test]
fn text_searches_the_words_beside_a_code() {
    assert_eq!(
        ask(&conditions(), "code", "text", &["diab"]).as_deref(),
        Ok("(label ContainsText diab or display ContainsText diab)")
    );
    let words = Bindings::of("words", "Condition", &[column("label", "code.text")]);
    assert_eq!(
        ask(&words, "code", "text", &["diab"]).as_deref(),
        Ok("label ContainsText diab")
    );
    assert!(
        ask(&words, "code", "", &["1"])
            .expect_err("there is no code")
            .contains("it has: text")
    );
}

#[test]
fn times_of_update_become_half_open_spans() {
    let c = conditions();
    assert_eq!(
        ask(&c, "_lastUpdated", "", &["ge2026-01-01"]).as_deref(),
        Ok("since 2026-01-01T00:00:00Z")
    );
    assert_eq!(
        ask(&c, "_lastUpdated", "", &["gt2026-01"]).as_deref(),
        Ok("since 2026-02-01T00:00:00Z")
    );
    assert_eq!(
        ask(&c, "_lastUpdated", "", &["lt2026"]).as_deref(),
        Ok("not since 2026-01-01T00:00:00Z")
    );
    assert_eq!(
        ask(&c, "_lastUpdated", "", &["2026-01-01T10:00:00+01:00"]).as_deref(),
        Ok("(since 2026-01-01T09:00:00Z and not since 2026-01-01T09:00:01Z)")
    );
}

#[test]
fn what_cannot_be_answered_rightly_is_refused_by_name() {
    let (c, p) = (conditions(), patients());
    let unbound = ask(&p, "code", "", &["1"]).expect_err("patients have no code");
    assert_eq!(
        unbound,
        "search parameter code cannot be bound to a column of view patients; these can: _id, _lastUpdated, alive, birthdate, gender"
    );
    assert!(
        ask(&p, "gender", "exact", &["male"])
            .expect_err("unknown modifier")
            .contains("it has: missing, not")
    );
    assert!(
        ask(&c, "clinical-status", "not", &["active"]).is_err(),
        "the first coding does not say that a resource has no such coding"
    );
    assert!(
        ask(&c, "patient", "", &["Group/a"])
            .expect_err("another type")
            .contains("Patient/id")
    );
    assert!(ask(&c, "patient", "", &["http://else/Patient/a"]).is_err());
    assert!(ask(&c, "gender", "", &[]).is_err());
    assert!(ask(&p, "gender", "", &[]).is_err() && ask(&p, "gender", "", &[""]).is_err());
    assert!(
        ask(&p, "birthdate", "", &["soon"])
            .expect_err("no date")
            .contains("YYYY-MM-DD")
    );
    assert!(
        ask(&p, "_id", "text", &["a"])
            .expect_err("no modifier")
            .contains("it has: none")
    );
    let filtered = Bindings::of(
        "v",
        "Observation",
        &[column(
            "loinc",
            "code.coding.where(system='http://loinc.org').code",
        )],
    );
    assert!(
        ask(&filtered, "code", "", &["1"]).is_err(),
        "a filtered path is not the whole element"
    );
    let groups = Bindings::of(
        "v",
        "Condition",
        &[column("subject", "subject.getReferenceKey()")],
    );
    assert!(ask(&groups, "patient", "", &["a"]).is_err() && ask(&groups, "subject", "", &["a"]).is_ok());
}
