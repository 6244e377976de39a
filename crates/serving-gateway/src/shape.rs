//! What a definition says of how many rows a resource has.

use serde_json::Value;

/// Of one view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Every resource has a row, also one without what the columns hold.
    pub(crate) every_resource: bool,
    /// A resource may have several rows.
    pub(crate) several_rows: bool,
}

impl Shape {
    /// Of a registered definition.
    pub(crate) fn of(definition: &str) -> Self {
        let Ok(definition) = serde_json::from_str::<Value>(definition) else {
            return Self {
                every_resource: false,
                several_rows: true,
            };
        };
        let filtered = definition
            .get("where")
            .is_some_and(|conditions| conditions.as_array().is_none_or(|list| !list.is_empty()));
        let has = |names: &[&str]| {
            definition
                .get("select")
                .is_some_and(|select| has_any(select, names))
        };
        Self {
            // Each of these may find nothing to iterate over, and then makes no row.
            every_resource: !filtered && !has(&["forEach", "repeat"]),
            several_rows: has(&["forEach", "forEachOrNull", "repeat", "unionAll"]),
        }
    }
}

/// Whether a select, or one within it, has one of these members.
fn has_any(select: &Value, names: &[&str]) -> bool {
    match select {
        Value::Array(list) => list.iter().any(|select| has_any(select, names)),
        Value::Object(members) => {
            names.iter().any(|name| members.contains_key(*name))
                || ["select", "unionAll"]
                    .iter()
                    .filter_map(|name| members.get(*name))
                    .any(|inner| has_any(inner, names))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_make_no_row_or_several_is_seen_at_any_depth() {
        let plain = r#"{"column": [{"name": "id", "path": "id"}]}"#;
        for (definition, every, several) in [
            (format!(r#"{{"select": [{plain}]}}"#), true, false),
            (format!(r#"{{"where": [], "select": [{plain}]}}"#), true, false),
            (
                format!(r#"{{"where": [{{"path": "active"}}], "select": [{plain}]}}"#),
                false,
                false,
            ),
            (
                format!(r#"{{"select": [{plain}, {{"forEachOrNull": "name", "column": []}}]}}"#),
                true,
                true,
            ),
            (
                r#"{"select": [{"select": [{"forEach": "name", "column": []}]}]}"#.to_owned(),
                false,
                true,
            ),
            (
                format!(r#"{{"select": [{{"unionAll": [{plain}, {{"repeat": ["item"], "column": []}}]}}]}}"#),
                false,
                true,
            ),
            ("not JSON".to_owned(), false, true),
        ] {
            let shape = Shape::of(&definition);
            assert_eq!(
                (shape.every_resource, shape.several_rows),
                (every, several),
                "{definition}"
            );
        }
    }
}
