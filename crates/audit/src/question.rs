//! What is asked, as it is noted: names and values as they were sent, for as long as the call lasts. What is recorded of it are hashes and known names.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use fhir_core::resource::is_r4_type;

use crate::{
    keys::{Key, looked_for},
    record::{Asked, Condition},
};

/// A condition as it was sent.
#[derive(Clone, Default)]
pub struct Noted {
    /// The column or parameter.
    pub of: String,
    /// The operator or modifier: a name of ours, or the caller's word.
    pub operator: Cow<'static, str>,
    /// The values.
    pub values: Vec<String>,
}

/// What is asked. Holds patients' data: it is never shown.
#[derive(Default)]
pub struct Question {
    /// Names of views.
    pub views: Vec<String>,
    /// Names of columns that were asked for, or are given.
    pub columns: Vec<String>,
    /// Conditions on columns.
    pub filters: Vec<Noted>,
    /// Search parameters.
    pub search: Vec<Noted>,
    /// Types of resources.
    pub resource_types: Vec<String>,
    /// Ids of patients.
    pub patients: Vec<String>,
    /// Ids of other resources.
    pub ids: Vec<String>,
    /// A statement.
    pub statement: Option<String>,
    /// What is bound to it.
    pub parameters: Vec<String>,
    /// Keyed hash of a definition, or Library, that came with the request: see [`Self::defines`].
    definition: Option<String>,
    /// A canonical URL.
    pub canonical: Option<String>,
    /// Only what changed since.
    pub since: Option<DateTime<Utc>>,
    /// So many at most.
    pub limit: Option<i64>,
    /// A number alone.
    pub count_only: bool,
    /// For what is hashed at once.
    key: Option<Key>,
}

impl Question {
    pub(crate) fn new(key: Key) -> Self {
        Self {
            key: Some(key),
            ..Self::default()
        }
    }

    /// A definition, or Library, came with the request. It may be long, and is not kept.
    pub fn defines(&mut self, text: &str) {
        self.definition = self.key.as_ref().map(|key| key.hash(text));
    }

    /// As it is recorded. `answered`: the names are known ones.
    pub(crate) fn asked(&self, key: &Key, answered: bool) -> Asked {
        let name = |name: &String| if answered { name.clone() } else { hidden(key, name) };
        let names = |all: &[String]| all.iter().map(name).collect::<Vec<_>>();
        let hashes = |values: &[String]| -> Vec<String> {
            values
                .iter()
                .flat_map(|value| looked_for(value))
                .map(|part| key.hash(part))
                .collect()
        };
        let conditions = |all: &[Noted]| -> Vec<Condition> {
            all.iter()
                .map(|noted| Condition {
                    of: name(&noted.of),
                    operator: match &noted.operator {
                        Cow::Borrowed(ours) => Cow::Borrowed(*ours),
                        Cow::Owned(word) => Cow::Owned(name(word)),
                    },
                    values: hashes(&noted.values),
                })
                .collect()
        };
        // Of which there is a list: whoever writes a name of another kind there is not told by it.
        let known_type = |of: &String| {
            if is_r4_type(of) {
                of.clone()
            } else {
                hidden(key, of)
            }
        };
        Asked {
            views: names(&self.views),
            columns: names(&self.columns),
            filters: conditions(&self.filters),
            search: conditions(&self.search),
            resource_types: self.resource_types.iter().map(known_type).collect(),
            patients: hashes(&self.patients),
            ids: hashes(&self.ids),
            statement: self.statement.as_deref().map(|text| key.hash(text)),
            literals: self
                .statement
                .as_deref()
                .map(|text| {
                    literals(text)
                        .flat_map(|text| looked_for(text).map(|part| key.hash(part)).collect::<Vec<_>>())
                        .collect()
                })
                .unwrap_or_default(),
            parameters: hashes(&self.parameters),
            definition: self.definition.clone(),
            canonical: self.canonical.as_ref().map(name),
            since: self.since,
            limit: self.limit,
            count_only: self.count_only,
        }
    }
}

fn hidden(key: &Key, name: &str) -> String {
    format!("#{}", key.hash(name))
}

/// Texts in single quotes, and runs of digits outside of them. (What is written in another way is found by the hash of the whole statement alone.)
fn literals(statement: &str) -> impl Iterator<Item = &str> {
    let mut rest = statement;
    std::iter::from_fn(move || {
        loop {
            let begin = rest.find(|c: char| c == '\'' || c.is_ascii_digit() || is_word(c))?;
            let from = &rest[begin..];
            if let Some(text) = from.strip_prefix('\'') {
                let end = text.find('\'').unwrap_or(text.len());
                rest = text.get(end + 1..).unwrap_or_default();
                return Some(&text[..end]);
            }
            let end = from.find(|c: char| !is_word(c) && c != '.').unwrap_or(from.len());
            rest = &from[end..];
            let word = from[..end].trim_end_matches('.');
            // A name may have digits in it.
            if word.starts_with(|c: char| c.is_ascii_digit()) {
                return Some(word);
            }
        }
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;

    fn key() -> Key {
        let keys = Keys::parse(format!("a {}", "0c".repeat(32)).as_bytes()).expect("a key");
        keys.current().clone()
    }

    #[test]
    fn names_stand_in_a_record_once_they_are_known_and_values_never() {
        let mut question = Question {
            views: vec!["patients".into()],
            filters: vec![Noted {
                of: "mrn".into(),
                operator: "equal".into(),
                values: vec!["Planted-1".into()],
            }],
            search: vec![Noted {
                of: "identifier".into(),
                operator: Cow::Owned("Planted-2".into()),
                values: vec!["http://x|Planted-3".into()],
            }],
            resource_types: vec!["Patient".into(), "PlantedType".into()],
            patients: vec!["Planted-4".into()],
            statement: Some("SELECT 'Planted-5' FROM t1 WHERE n = 12345".into()),
            parameters: vec!["Planted-6".into()],
            ..Question::new(key())
        };
        question.defines("Planted-7");
        let (key, text) = (key(), |asked: &Asked| serde_json::to_string(asked).expect("JSON"));
        let known = question.asked(&key, true);
        assert_eq!(
            (known.views[0].as_str(), known.filters[0].of.as_str()),
            ("patients", "mrn")
        );
        assert_eq!(known.filters[0].operator, "equal");
        assert_eq!(known.filters[0].values, [key.hash("Planted-1")]);
        assert_eq!(known.search[0].values[1], key.hash("Planted-3"));
        assert_eq!(known.definition, Some(key.hash("Planted-7")));
        assert_eq!(known.resource_types[0], "Patient");
        assert_eq!(known.literals, [key.hash("Planted-5"), key.hash("12345")]);
        let refused = question.asked(&key, false);
        assert_eq!(refused.views, [format!("#{}", key.hash("patients"))]);
        assert!(
            !text(&refused).contains("Planted") && !text(&refused).contains("mrn"),
            "{}",
            text(&refused)
        );
        let shown = text(&known);
        // A modifier that was answered by is one that is known.
        assert!(
            shown.matches("Planted").count() == 1 && shown.contains("\"operator\":\"Planted-2\""),
            "{shown}"
        );
    }

    #[test]
    fn what_stands_in_a_statement_is_found() {
        let found: Vec<&str> =
            literals("SELECT a1, 'x y', 7.5 FROM t WHERE b='it''s' AND c IN (12,'é') AND $1 = d").collect();
        assert_eq!(found, ["x y", "7.5", "it", "s", "12", "é", "1"]);
        assert_eq!(literals("'open").collect::<Vec<_>>(), ["open"]);
        assert_eq!(literals("").count(), 0);
    }
}
