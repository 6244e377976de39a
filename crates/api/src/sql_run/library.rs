//! An SQLQuery or SQLView: a Library that holds a query in SQL, the tables that it reads and the parameters that it takes.
//!
//! Source: the profiles SQLQuery and SQLView of SQL on FHIR 3.0.0-ballot.

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, NaiveDate};
use serde_json::Value as Json;

use super::{Canonical, given::Parameters};
use crate::{Outcome, sql::SqlValue};

const SQL_TEXT: &str = "http://hl7.org/fhir/uv/sql-on-fhir/StructureDefinition/sql-text";

/// A query, with what it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// The statement, with `:name` for its parameters.
    pub statement: String,
    /// What it reads.
    pub tables: Vec<Dependency>,
    declared: Vec<Declared>,
}

/// A table of the statement and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Its name in the statement.
    pub label: String,
    /// The view that it is.
    pub canonical: Canonical,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    name: String,
    /// Of FHIR.
    kind: String,
    /// It may be left out, and is null then.
    optional: bool,
}

/// `value[x]` of each type that a parameter may have.
const KINDS: [(&str, &str); 6] = [
    ("string", "String"),
    ("integer", "Integer"),
    ("date", "Date"),
    ("dateTime", "DateTime"),
    ("boolean", "Boolean"),
    ("decimal", "Decimal"),
];

impl Library {
    /// Reads a Library; 422 if it is no query that can be run. `parameter` is the one that it came by.
    pub fn parse(parameter: &'static str, library: &Json) -> Result<Self, Outcome> {
        let refuse = |why: String| Outcome::unprocessable(&[parameter], format!("{parameter}: {why}"));
        if !is_query(library) {
            return Err(refuse(
                "this Library is neither an SQLQuery nor an SQLView: its type must be sql-query or sql-view"
                    .into(),
            ));
        }
        Ok(Self {
            statement: statement(library).map_err(refuse)?,
            tables: tables(library).map_err(refuse)?,
            declared: declared(library).map_err(refuse)?,
        })
    }

    /// The value of each parameter, in the order of the declarations; `given` is a `Parameters` resource.
    pub fn bind(&self, given: Option<&str>) -> Result<Vec<(String, SqlValue)>, Outcome> {
        let in_place = |mut outcome: Outcome| {
            for issue in &mut outcome.issues {
                issue.expression = vec!["parameters".to_owned()];
            }
            outcome
        };
        let mut parameters = Parameters::of_url(Vec::new());
        if let Some(given) = given {
            parameters.add_body(given).map_err(in_place)?;
        }
        let mut bound = Vec::new();
        for declared in &self.declared {
            let value = parameters
                .one(&declared.name, |given| given.bound(&declared.kind))
                .map_err(in_place)?;
            let value = match value {
                Some(value) => value,
                None if declared.optional => SqlValue::Null,
                None => {
                    let rule = format!("parameters: {} needs a value: it has no min = 0", declared.name);
                    return Err(Outcome::new(400, "required", &["parameters"], rule));
                }
            };
            bound.push((declared.name.clone(), value));
        }
        if parameters.rest().is_err() {
            let known: Vec<&str> = self
                .declared
                .iter()
                .map(|declared| declared.name.as_str())
                .collect();
            let rule = format!(
                "parameters: holds one that the query does not declare; it declares: {}",
                known.join(", ")
            );
            return Err(Outcome::invalid("parameters", rule));
        }
        Ok(bound)
    }
}

/// By its type, its profile, or for want of both by its content.
fn is_query(library: &Json) -> bool {
    let list = |pointer: &str| {
        library
            .pointer(pointer)
            .and_then(Json::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let typed = list("/type/coding")
        .iter()
        .any(|coding| matches!(coding["code"].as_str(), Some("sql-query" | "sql-view")));
    let profiled = list("/meta/profile")
        .iter()
        .filter_map(Json::as_str)
        .any(|profile| {
            let profile = profile.split('|').next().unwrap_or_default();
            profile.ends_with("/SQLQuery") || profile.ends_with("/SQLView")
        });
    typed
        || profiled
        || (library.get("type").is_none()
            && list("/content").iter().any(|content| dialect(content).is_some()))
}

/// The dialect of an attachment that holds SQL; empty if it says none.
fn dialect(content: &Json) -> Option<String> {
    let kind = content["contentType"].as_str()?.to_ascii_lowercase();
    let mut parts = kind.split(';').map(str::trim);
    (parts.next() == Some("application/sql")).then(|| {
        let named = parts.find_map(|part| part.strip_prefix("dialect="));
        named.unwrap_or_default().trim_matches('"').to_owned()
    })
}

fn statement(library: &Json) -> Result<String, String> {
    let none = Vec::new();
    let contents = library["content"].as_array().unwrap_or(&none);
    let of = |wanted: &[&str]| {
        contents
            .iter()
            .find(|content| dialect(content).is_some_and(|dialect| wanted.contains(&dialect.as_str())))
    };
    let content = of(&["postgresql", "postgres"])
        .or_else(|| of(&["", "ansi"]))
        .ok_or(
            "content needs an attachment of the type application/sql, of no dialect or of dialect=postgresql",
        )?;
    let plain = content["extension"]
        .as_array()
        .and_then(|extensions| extensions.iter().find(|extension| extension["url"] == SQL_TEXT))
        .and_then(|extension| extension["valueString"].as_str());
    let data = content["data"]
        .as_str()
        .map(|data| {
            let data: String = data.split_ascii_whitespace().collect();
            let bytes = STANDARD.decode(data).map_err(|_| "content.data is not base64")?;
            String::from_utf8(bytes).map_err(|_| "content.data is not UTF-8")
        })
        .transpose()?;
    match (plain, data) {
        (Some(plain), Some(data)) if plain.trim() != data.trim() => {
            Err("content.data and its extension sql-text are not the same statement".into())
        }
        (_, Some(data)) => Ok(data),
        (Some(plain), None) => Ok(plain.to_owned()),
        (None, None) => Err("content holds no SQL: give data in base64, or the extension sql-text".into()),
    }
}

fn tables(library: &Json) -> Result<Vec<Dependency>, String> {
    let none = Vec::new();
    let artifacts = library["relatedArtifact"].as_array().unwrap_or(&none);
    let mut labels = HashSet::new();
    let mut tables = Vec::new();
    for (i, artifact) in artifacts.iter().enumerate() {
        if artifact["type"] != "depends-on" {
            continue;
        }
        let canonical = artifact["resource"].as_str().and_then(Canonical::parse);
        let label = artifact["label"].as_str().filter(|label| is_name(label));
        let (Some(canonical), Some(label)) = (canonical, label) else {
            return Err(format!(
                "relatedArtifact[{i}]: needs the canonical URL of a view as resource, and a name of letters, digits and _ as label"
            ));
        };
        if !labels.insert(label.to_ascii_lowercase()) {
            return Err(format!("relatedArtifact[{i}]: its label is another's already"));
        }
        tables.push(Dependency {
            label: label.to_owned(),
            canonical,
        });
    }
    Ok(tables)
}

fn declared(library: &Json) -> Result<Vec<Declared>, String> {
    let none = Vec::new();
    let parameters = library["parameter"].as_array().unwrap_or(&none);
    let mut names = HashSet::new();
    let mut declared = Vec::new();
    for (i, parameter) in parameters.iter().enumerate() {
        if parameter["use"] == "out" {
            continue;
        }
        let name = parameter["name"].as_str().filter(|name| is_name(name));
        let name = name.ok_or_else(|| format!("parameter[{i}].name: must be of letters, digits and _"))?;
        let kind = parameter["type"].as_str().unwrap_or_default();
        if !KINDS.iter().any(|(known, _)| *known == kind) {
            let known: Vec<&str> = KINDS.iter().map(|(kind, _)| *kind).collect();
            return Err(format!(
                "parameter[{i}].type: must be one of {}",
                known.join(", ")
            ));
        }
        if !names.insert(name) {
            return Err(format!("parameter[{i}].name: is another's already"));
        }
        declared.push(Declared {
            name: name.to_owned(),
            kind: kind.to_owned(),
            optional: parameter["min"] == 0,
        });
    }
    Ok(declared)
}

fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    (1..=63).contains(&text.len())
        && bytes
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl super::given::Given {
    /// A value for a parameter of this type of FHIR. Dates are texts: the statement compares them with what views hold, or casts them.
    fn bound(&self, kind: &str) -> Result<SqlValue, Outcome> {
        let member = KINDS
            .iter()
            .find(|(known, _)| *known == kind)
            .map_or("", |(_, member)| member);
        Ok(match kind {
            "integer" => SqlValue::Integer(self.integer()?),
            "boolean" => SqlValue::Boolean(self.boolean()?),
            "decimal" => SqlValue::Decimal(self.number()?),
            "date" => SqlValue::Text(self.text_that(member, is_date, "as 2026, 2026-01 or 2026-01-31")?),
            "dateTime" => {
                let form = "as a date, or as 2026-01-31T10:00:00Z";
                SqlValue::Text(self.text_that(member, is_date_time, form)?)
            }
            _ => SqlValue::Text(self.text(&[member])?),
        })
    }

    fn text_that(&self, member: &str, holds: impl Fn(&str) -> bool, form: &str) -> Result<String, Outcome> {
        let text = self.text(&[member])?;
        if holds(&text) {
            Ok(text)
        } else {
            Err(self.must(&format!("must be a value{member} {form}")))
        }
    }
}

/// FHIR's `date`: a year, a month or a day.
fn is_date(text: &str) -> bool {
    let day = match text.len() {
        4 => format!("{text}-01-01"),
        7 => format!("{text}-01"),
        _ => text.to_owned(),
    };
    day.len() == 10 && NaiveDate::parse_from_str(&day, "%Y-%m-%d").is_ok()
}

/// FHIR's `dateTime`: a date, or a moment with its offset.
fn is_date_time(text: &str) -> bool {
    is_date(text) || DateTime::parse_from_rfc3339(text).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn query() -> Json {
        json!({
            "resourceType": "Library",
            "type": {"coding": [{"code": "sql-query"}]},
            "relatedArtifact": [
                {"type": "depends-on", "resource": "http://x.org/v|1", "label": "p"},
                {"type": "citation", "resource": "http://x.org/paper"}],
            "parameter": [
                {"name": "who", "type": "string", "use": "in"}, {"name": "low", "type": "decimal", "use": "in", "min": 0},
                {"name": "rows", "type": "integer", "use": "out"}],
            "content": [
                {"contentType": "application/sql;dialect=duckdb", "data": STANDARD.encode("SELECT 0")},
                {"contentType": "application/sql", "data": STANDARD.encode("SELECT 1")},
                {"contentType": "application/sql; dialect=postgresql", "extension": [{"url": SQL_TEXT, "valueString": "SELECT 2"}]}],
        })
    }

    fn parse(library: &Json) -> Result<Library, Outcome> {
        Library::parse("subjectResource", library)
    }

    fn given(parameters: &Json) -> String {
        json!({"resourceType": "Parameters", "parameter": parameters}).to_string()
    }

    #[test]
    fn the_statement_is_that_of_our_dialect_or_of_none() {
        let mut library = query();
        assert_eq!(parse(&library).expect("a query").statement, "SELECT 2");
        library["content"].as_array_mut().expect("contents").remove(2);
        assert_eq!(parse(&library).expect("a query").statement, "SELECT 1");
        library["content"].as_array_mut().expect("contents").remove(1);
        assert_eq!(parse(&library).expect_err("of another dialect").status, 422);
    }

    #[test]
    fn two_forms_of_a_statement_must_be_one() {
        let mut library = query();
        library["content"] = json!([{"contentType": "application/sql", "data": STANDARD.encode("SELECT 1"),
            "extension": [{"url": SQL_TEXT, "valueString": "SELECT 2"}]}]);
        assert!(
            parse(&library)
                .expect_err("two statements")
                .to_string()
                .contains("sql-text")
        );
    }

    #[test]
    fn what_is_no_query_is_refused() {
        let mut cases = vec![
            json!({"resourceType": "Library"}),
            json!({"resourceType": "Library", "type": {"coding": [{"code": "logic-library"}]}}),
        ];
        for (member, value) in [
            ("content", json!([])),
            (
                "content",
                json!([{"contentType": "application/sql", "data": "%"}]),
            ),
            ("content", json!([{"contentType": "application/sql"}])),
            ("relatedArtifact", json!([{"type": "depends-on", "label": "p"}])),
            (
                "relatedArtifact",
                json!([{"type": "depends-on", "resource": "http://x", "label": "p; DROP"}]),
            ),
            (
                "relatedArtifact",
                json!([{"type": "depends-on", "resource": "http://x", "label": "p"}, {"type": "depends-on", "resource": "http://y", "label": "P"}]),
            ),
            ("parameter", json!([{"name": "a b", "type": "string"}])),
            ("parameter", json!([{"name": "a", "type": "Quantity"}])),
            (
                "parameter",
                json!([{"name": "a", "type": "string"}, {"name": "a", "type": "string"}]),
            ),
        ] {
            let mut library = query();
            library[member] = value;
            cases.push(library);
        }
        for case in cases {
            let refused = parse(&case).expect_err("refused");
            assert_eq!(
                (refused.status, refused.issues[0].code),
                (422, "invalid"),
                "{case}"
            );
        }
    }

    #[test]
    fn dates_are_of_the_form_that_fhir_has() {
        for good in ["2026", "2026-02", "2026-02-28"] {
            assert!(is_date(good) && is_date_time(good), "{good}");
        }
        for bad in [
            "",
            "26",
            "2026-2",
            "2026-02-30",
            "2026-02-28T",
            "+2026-1-1",
            "then",
        ] {
            assert!(!is_date(bad) && !is_date_time(bad), "{bad}");
        }
        assert!(is_date_time("2026-02-28T10:00:00.5+01:00") && !is_date_time("2026-02-28T10:00:00"));
    }

    #[test]
    fn values_are_bound_by_name_and_type() {
        let library = parse(&query()).expect("a query");
        let values =
            given(&json!([{"name": "who", "valueString": "s3cret"}, {"name": "low", "valueDecimal": 1.5}]));
        let bound = library.bind(Some(&values)).expect("bound");
        assert_eq!(bound[1].1, SqlValue::Decimal("1.5".into()));
        let only = given(&json!([{"name": "who", "valueString": "x"}]));
        assert_eq!(library.bind(Some(&only)).expect("bound")[1].1, SqlValue::Null);
        for (parameters, code) in [
            (json!([]), "required"),
            (json!([{"name": "who", "valueInteger": 1}]), "invalid"),
            (
                json!([{"name": "who", "valueString": "s3cret"}, {"name": "else", "valueString": "s3cret"}]),
                "invalid",
            ),
            (
                json!([{"name": "who", "valueString": "s3cret"}, {"name": "who", "valueString": "s3cret"}]),
                "invalid",
            ),
        ] {
            let refused = library.bind(Some(&given(&parameters))).expect_err("refused");
            assert_eq!(
                (refused.status, refused.issues[0].code),
                (400, code),
                "{parameters}"
            );
            assert_eq!(refused.issues[0].expression, ["parameters"]);
            assert!(!refused.to_string().contains("s3cret"), "{refused}");
        }
    }
}
