//! Parameters as they were given, in a URL or in a `Parameters` resource, and their values as types.

use std::collections::HashMap;

use chrono::{DateTime, Datelike as _, Utc};
use serde_json::value::RawValue;

use crate::Outcome;

/// Members of an object, each as its text.
type Members<'a> = HashMap<String, &'a RawValue>;

/// One parameter.
#[derive(Debug, Clone)]
pub(super) struct Given {
    name: String,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    /// From a URL.
    Url(String),
    /// `valueCode` is the kind `Code`; with its JSON text.
    Typed(String, String),
    /// JSON text.
    Resource(String),
    /// `part`, or nothing, or more than one thing.
    Unusable,
}

/// Those that were not asked for yet.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<Given>);

impl Parameters {
    pub(super) fn of_url(query: Vec<(String, String)>) -> Self {
        let given = query.into_iter().map(|(name, text)| Given {
            name,
            value: Value::Url(text),
        });
        Self(given.collect())
    }

    /// Adds those of a body.
    pub(super) fn add_body(&mut self, body: &str) -> Result<(), Outcome> {
        let shape = || {
            Outcome::new(
                400,
                "structure",
                &[],
                "the body must be a Parameters resource in JSON",
            )
        };
        let members = members(body).ok_or_else(shape)?;
        if text_of(&members, "resourceType").as_deref() != Some("Parameters") {
            return Err(shape());
        }
        let Some(list) = members.get("parameter") else {
            return Ok(());
        };
        let list: Vec<Members<'_>> = serde_json::from_str(list.get()).map_err(|_| shape())?;
        for parameter in list {
            let name = text_of(&parameter, "name").ok_or_else(|| {
                Outcome::new(
                    400,
                    "structure",
                    &["parameter.name"],
                    "each parameter needs a name",
                )
            })?;
            self.0.push(Given {
                name,
                value: value(&parameter),
            });
        }
        Ok(())
    }

    fn take(&mut self, name: &str) -> Vec<Given> {
        self.0.extract_if(.., |given| given.name == name).collect()
    }

    /// A parameter that may be given once.
    pub(super) fn one<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Given) -> Result<T, Outcome>,
    ) -> Result<Option<T>, Outcome> {
        match self.take(name).as_slice() {
            [] => Ok(None),
            [given] => read(given).map(Some),
            _ => Err(Outcome::invalid(name, format!("{name}: may be given once"))),
        }
    }

    /// A parameter that may be repeated.
    pub(super) fn all<T>(
        &mut self,
        name: &str,
        read: impl Fn(&Given) -> Result<T, Outcome>,
    ) -> Result<Vec<T>, Outcome> {
        let given = self.take(name);
        if given.len() > super::MAX_NAMED {
            let rule = format!("{name}: may be given {} times at most", super::MAX_NAMED);
            return Err(Outcome::invalid(name, rule));
        }
        given.iter().map(read).collect()
    }

    /// What nobody has asked for is not served.
    pub(super) fn rest(self) -> Result<(), Outcome> {
        let mut refused: Option<Outcome> = None;
        for given in self.0.into_iter().take(10) {
            let outcome = unserved(&given.name);
            match &mut refused {
                Some(refused) => refused.and(outcome),
                none => *none = Some(outcome),
            }
        }
        refused.map_or(Ok(()), Err)
    }
}

impl Given {
    pub(super) fn must(&self, rule: &str) -> Outcome {
        Outcome::invalid(&self.name, format!("{}: {rule}", self.name))
    }

    /// A text: in a body as a value of one of these kinds.
    pub(super) fn text(&self, kinds: &[&str]) -> Result<String, Outcome> {
        let text = match &self.value {
            Value::Url(text) => Some(text.clone()),
            Value::Typed(kind, json) if kinds.contains(&kind.as_str()) => serde_json::from_str(json).ok(),
            _ => None,
        };
        text.filter(|text| !text.is_empty())
            .ok_or_else(|| self.must(&format!("must be one value{}, and not empty", kinds[0])))
    }

    /// A literal reference.
    pub(super) fn reference(&self) -> Result<String, Outcome> {
        if let Value::Typed(kind, json) = &self.value
            && kind == "Reference"
        {
            let members = members(json).unwrap_or_default();
            let text = text_of(&members, "reference").filter(|text| !text.is_empty());
            return text.ok_or_else(|| self.must("must be a valueReference with a reference"));
        }
        self.text(&["Reference", "String", "Uri", "Id"])
    }

    /// A resource, as JSON text.
    pub(super) fn resource(&self) -> Result<String, Outcome> {
        match &self.value {
            Value::Resource(text) => Ok(text.clone()),
            Value::Url(_) => {
                Err(self.must("holds a resource, which a URL cannot: POST a Parameters resource instead"))
            }
            _ => Err(self.must("must be given as a resource")),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, Outcome> {
        let text = match &self.value {
            Value::Url(text) => text,
            Value::Typed(kind, json) if kind == "Boolean" => json,
            _ => "",
        };
        text.parse().map_err(|_| self.must("must be true or false"))
    }

    pub(super) fn integer(&self) -> Result<i64, Outcome> {
        let text = match &self.value {
            Value::Url(text) => text,
            Value::Typed(kind, json)
                if matches!(kind.as_str(), "Integer" | "UnsignedInt" | "PositiveInt") =>
            {
                json
            }
            _ => "",
        };
        text.parse().map_err(|_| self.must("must be a whole number"))
    }

    /// A number, as its exact text.
    pub(super) fn number(&self) -> Result<String, Outcome> {
        let text = match &self.value {
            Value::Typed(kind, json) if kind == "Decimal" => json.as_str(),
            _ => "",
        };
        let number = serde_json::from_str::<serde_json::Number>(text);
        number
            .map(|number| number.to_string())
            .map_err(|_| self.must("must be a valueDecimal"))
    }

    pub(super) fn instant(&self) -> Result<DateTime<Utc>, Outcome> {
        let rule = "must be an instant such as 2026-01-31T10:00:00Z, of the years 1 to 9999; in a URL + is written %2B";
        let text = self.text(&["Instant", "DateTime"]).map_err(|_| self.must(rule))?;
        let at = DateTime::parse_from_rfc3339(&text).ok().map(|at| at.to_utc());
        at.filter(|at| (1..=9998).contains(&at.year()))
            .ok_or_else(|| self.must(rule))
    }
}

fn value(parameter: &Members<'_>) -> Value {
    let mut values = parameter.iter().filter_map(|(member, json)| {
        if member == "resource" {
            return Some(Value::Resource(json.get().to_owned()));
        }
        let kind = member.strip_prefix("value").filter(|kind| !kind.is_empty())?;
        Some(Value::Typed(kind.to_owned(), json.get().to_owned()))
    });
    match (values.next(), values.next()) {
        (Some(value), None) => value,
        _ => Value::Unusable,
    }
}

/// A parameter that is not served. Its name is a word of the caller's that may be anything: only one that could be a parameter's is repeated.
pub fn unserved(name: &str) -> Outcome {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b':');
    let name = if name.len() <= 40 && name.bytes().all(plain) {
        name
    } else {
        "parameter"
    };
    Outcome::unsupported(
        name,
        format!("{name}: this parameter is not served here: see metadata"),
    )
}

/// The members of an object; `None` for any other text.
pub(super) fn members(json: &str) -> Option<Members<'_>> {
    serde_json::from_str(json).ok()
}

/// A member that is a text.
pub(super) fn text_of(members: &Members<'_>, name: &str) -> Option<String> {
    serde_json::from_str(members.get(name)?.get()).ok()
}

/// The resources of a Bundle; `None` for any other resource.
pub(super) fn bundled(resource: &str) -> Result<Option<Vec<String>>, Outcome> {
    let shape = || {
        Outcome::invalid(
            "resource",
            "resource: must be a FHIR resource, an object with a resourceType",
        )
    };
    let bundle = members(resource).ok_or_else(shape)?;
    let of = text_of(&bundle, "resourceType").ok_or_else(shape)?;
    if of != "Bundle" {
        return Ok(None);
    }
    let Some(entries) = bundle.get("entry") else {
        return Ok(Some(Vec::new()));
    };
    let entries: Vec<Members<'_>> = serde_json::from_str(entries.get()).map_err(|_| shape())?;
    let mut resources = Vec::new();
    for entry in entries {
        let Some(resource) = entry.get("resource") else {
            continue;
        };
        let members = members(resource.get()).ok_or_else(shape)?;
        text_of(&members, "resourceType").ok_or_else(shape)?;
        resources.push(resource.get().to_owned());
    }
    Ok(Some(resources))
}
