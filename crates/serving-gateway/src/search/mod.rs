//! FHIR search parameters, bound to the columns of a view.
//!
//! A parameter is bound to the columns whose path is the element that it searches (`gender` to `gender`, `code` to `code.coding.code`), or that carry
//! the tag `search-param` with its name. Rows are searched, not resources: in a view with a row for each coding, `code` finds the rows of that
//! coding. What a view's columns cannot answer rightly is refused by name, with what can be asked.

mod date;
mod forms;
mod parameters;
mod patient;

use std::collections::BTreeMap;

use fhir_core::{
    column::{Column, ColumnKind},
    resource::is_id,
};
use view_store::{Condition, Operator};

pub use forms::{SearchForm, SearchForms, values_of};

use self::{
    date::{Asked, FORM, compare},
    parameters::{Kind, PARAMETERS},
};

/// Name of the tag that binds a parameter to a column.
const TAG: &str = "search-param";

/// Why a parameter cannot be bound. Names what was asked and what exists, never a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SearchError {
    /// No column of the view holds what it searches.
    #[error("search parameter {name} cannot be bound to a column of view {view}; these can: {known}")]
    Unbound {
        /// As asked.
        name: String,
        /// The view.
        view: String,
        /// Names, comma separated.
        known: String,
    },
    /// The modifier is not one of the parameter's.
    #[error("search parameter {name} has no modifier {modifier} in view {view}; it has: {known}")]
    Modifier {
        /// The parameter.
        name: String,
        /// As asked.
        modifier: String,
        /// The view.
        view: String,
        /// Modifiers, comma separated.
        known: String,
    },
    /// A value is not of the form that the parameter takes.
    #[error("search parameter {name}: {rule}")]
    Value {
        /// The parameter.
        name: String,
        /// What a value must look like.
        rule: String,
    },
}

/// One column and how a parameter's values are compared with it.
#[derive(Debug, Clone)]
struct Target {
    column: String,
    kind: ColumnKind,
    holds: Holds,
    compared: Compared,
}

/// How much of its element a column holds, over all rows of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// The element does not repeat.
    TheOne,
    /// All of them, in a collection or in rows of their own.
    All,
    /// The first, or another one of several.
    Some,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Compared {
    /// A code; with the column that holds its system.
    Code {
        system: Option<String>,
    },
    /// Words that describe a code: for the modifier `text` only.
    Words,
    Date,
    /// A resource's id; of this type, if the column says so.
    Key(Option<String>),
    /// `Type/id`.
    RelativeReference(Option<&'static str>),
}

/// A parameter with the columns that it searches.
#[derive(Debug, Clone)]
struct Binding {
    targets: Vec<Target>,
}

/// The parameters that a view can answer.
#[derive(Debug, Clone)]
pub struct Bindings {
    view: String,
    bound: BTreeMap<String, Binding>,
}

impl Bindings {
    /// Binds what can be bound.
    pub fn of(view: &str, resource_type: &str, columns: &[Column]) -> Self {
        let mut bound: BTreeMap<String, Binding> = BTreeMap::new();
        for parameter in PARAMETERS {
            let of_type = parameter.types.is_empty() || parameter.types.contains(&resource_type);
            if !of_type || bound.contains_key(parameter.name) {
                continue;
            }
            let targets: Vec<Target> = columns
                .iter()
                .flat_map(|column| {
                    parameter
                        .elements
                        .iter()
                        .filter_map(|e| target(parameter.kind, e, column, columns))
                })
                .collect();
            if !targets.is_empty() {
                bound.insert(parameter.name.to_owned(), Binding { targets });
            }
        }
        for column in columns {
            for (_, name) in column.tags.iter().filter(|(tag, _)| tag == TAG) {
                let target = tagged(column);
                let binding = bound
                    .entry(name.clone())
                    .or_insert_with(|| Binding { targets: Vec::new() });
                // A tag says more than a path does.
                binding.targets.retain(|known| known.column != column.name);
                binding.targets.push(target);
            }
        }
        Self {
            view: view.to_owned(),
            bound,
        }
    }

    /// Names of all that can be asked.
    fn names(&self) -> impl Iterator<Item = &str> {
        ["_id", "_lastUpdated"]
            .into_iter()
            .chain(self.bound.keys().map(String::as_str))
    }

    /// The condition that one parameter means; its values are alternatives.
    pub fn bind(&self, name: &str, modifier: &str, values: &[String]) -> Result<Condition, SearchError> {
        let value_error = |rule: &str| SearchError::Value {
            name: name.to_owned(),
            rule: rule.to_owned(),
        };
        let no_modifiers = || match modifier {
            "" => Ok(()),
            other => Err(self.no_modifier(name, other, &[])),
        };
        if values.is_empty() || values.iter().any(String::is_empty) {
            return Err(value_error("needs at least one value, and none may be empty"));
        }
        if name == "_id" {
            no_modifiers()?;
            return Ok(Condition::ResourceId(values.to_vec()));
        }
        if name == "_lastUpdated" {
            no_modifiers()?;
            let each = values.iter().map(|value| {
                Ok(Asked::parse(value)
                    .ok_or_else(|| value_error(FORM))?
                    .on_last_updated())
            });
            return Ok(any(each.collect::<Result<_, _>>()?));
        }
        let Some(binding) = self.bound.get(name) else {
            let known: Vec<&str> = self.names().collect();
            return Err(SearchError::Unbound {
                name: name.to_owned(),
                view: self.view.clone(),
                known: known.join(", "),
            });
        };
        let modifiers = binding.modifiers();
        let plain = modifier.is_empty() && binding.plain().next().is_some();
        if !plain && !modifiers.contains(&modifier) {
            return Err(self.no_modifier(name, modifier, &modifiers));
        }
        match modifier {
            "missing" => binding
                .missing(values)
                .ok_or_else(|| value_error("missing takes one value, true or false")),
            "text" => Ok(any(values
                .iter()
                .flat_map(|value| binding.words(value))
                .collect())),
            _ => {
                let each = values
                    .iter()
                    .map(|value| binding.matches(value).map_err(|rule| value_error(&rule)));
                let condition = any(each.collect::<Result<_, _>>()?);
                Ok(match modifier {
                    "not" if binding.plain().all(|target| target.holds == Holds::TheOne) => {
                        Condition::Not(Box::new(condition))
                    }
                    // A question about the resource: none of its codings is meant.
                    "not" => Condition::NoRowOfResource(Box::new(condition)),
                    _ => condition,
                })
            }
        }
    }

    fn no_modifier(&self, name: &str, modifier: &str, known: &[&str]) -> SearchError {
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        let modifier = if modifier.is_empty() { "(none)" } else { modifier };
        SearchError::Modifier {
            name: name.to_owned(),
            modifier: modifier.to_owned(),
            view: self.view.clone(),
            known,
        }
    }
}

impl Binding {
    /// Targets of the parameter without a modifier.
    fn plain(&self) -> impl Iterator<Item = &Target> {
        self.targets
            .iter()
            .filter(|target| target.compared != Compared::Words)
    }

    fn modifiers(&self) -> Vec<&'static str> {
        let mut modifiers = Vec::new();
        if self
            .targets
            .iter()
            .any(|target| target.compared == Compared::Words)
        {
            modifiers.push("text");
        }
        if self.plain().next().is_some() {
            modifiers.push("missing");
        }
        // Of an element that may repeat, `not` is a question about the resource: it can be answered where rows hold all that there is.
        let codes = |t: &Target| matches!(t.compared, Compared::Code { .. }) && t.holds != Holds::Some;
        if self.plain().any(codes) && self.plain().all(|t| matches!(t.compared, Compared::Code { .. })) {
            modifiers.push("not");
        }
        modifiers
    }

    fn missing(&self, values: &[String]) -> Option<Condition> {
        let missing = |t: &Target| compare(&t.column, Operator::IsNull, []);
        let all_missing = Condition::All(self.plain().map(missing).collect());
        match values {
            [value] if value == "true" => Some(all_missing),
            [value] if value == "false" => Some(Condition::Not(Box::new(all_missing))),
            _ => None,
        }
    }

    fn words(&self, value: &str) -> Vec<Condition> {
        let words = self
            .targets
            .iter()
            .filter(|target| target.compared == Compared::Words);
        words
            .map(|target| compare(&target.column, Operator::ContainsText, [value.to_owned()]))
            .collect()
    }

    /// The rows that one value finds; an error says which form is needed.
    fn matches(&self, value: &str) -> Result<Condition, String> {
        let mut rule = None;
        let mut found = Vec::new();
        for target in self.plain() {
            match target.matches(value) {
                Ok(condition) => found.push(condition),
                Err(why) => rule = Some(why),
            }
        }
        // One column that can answer is enough: they hold the same element.
        match rule {
            Some(rule) if found.is_empty() => Err(rule),
            _ => Ok(any(found)),
        }
    }
}

impl Target {
    fn matches(&self, value: &str) -> Result<Condition, String> {
        let equal = |column: &str, value: &str| compare(column, Operator::Equal, [value.to_owned()]);
        match &self.compared {
            Compared::Code { system } => match value.split_once('|') {
                None => {
                    if self.kind == ColumnKind::Boolean && !matches!(value, "true" | "false") {
                        return Err("takes true or false".into());
                    }
                    Ok(equal(&self.column, value))
                }
                Some((asked, code)) => {
                    let Some(column) = system else {
                        return Err(
                            "no column of this view holds the system of the code: give the code alone".into(),
                        );
                    };
                    let of_system = if asked.is_empty() {
                        compare(column, Operator::IsNull, [])
                    } else {
                        equal(column, asked)
                    };
                    Ok(match code {
                        "" => of_system,
                        code => Condition::All(vec![of_system, equal(&self.column, code)]),
                    })
                }
            },
            Compared::Words => Err("takes the modifier text".into()),
            Compared::Date => {
                let asked = Asked::parse(value).ok_or_else(|| format!("takes {FORM}"))?;
                asked.on(&self.column, self.kind).ok_or_else(|| {
                    "takes a date without a time in this view, as YYYY, YYYY-MM or YYYY-MM-DD".into()
                })
            }
            Compared::Key(of_type) => match value.split_once('/') {
                None if is_id(value) => Ok(equal(&self.column, value)),
                Some((asked, id))
                    if is_id(id) && of_type.as_deref().is_none_or(|of_type| of_type == asked) =>
                {
                    Ok(equal(&self.column, id))
                }
                _ => Err(reference_form(of_type.as_deref())),
            },
            Compared::RelativeReference(of_type) => match (value.split_once('/'), of_type) {
                (None, Some(of_type)) if is_id(value) => {
                    Ok(equal(&self.column, &format!("{of_type}/{value}")))
                }
                (Some((asked, id)), of_type)
                    if is_id(id) && of_type.is_none_or(|of_type| of_type == asked) =>
                {
                    Ok(equal(&self.column, value))
                }
                (None, None) => Err("takes Type/id in this view".into()),
                _ => Err(reference_form(*of_type)),
            },
        }
    }
}

fn reference_form(of_type: Option<&str>) -> String {
    match of_type {
        Some(of_type) => {
            format!("takes an id or {of_type}/id: the view's column holds references to {of_type} only")
        }
        None => "takes an id or Type/id".into(),
    }
}

fn any(mut conditions: Vec<Condition>) -> Condition {
    if conditions.len() == 1 {
        conditions.remove(0)
    } else {
        Condition::Any(conditions)
    }
}

/// A path without what does not change which element it names: `.first()`, `[0]`, spaces.
fn element_of(path: &str) -> String {
    let mut rest = path.replace(' ', "").replace(".first()", "");
    while let Some((open, close)) = rest
        .find('[')
        .and_then(|open| Some((open, open + rest[open..].find(']')?)))
    {
        if !rest[open + 1..close].bytes().all(|b| b.is_ascii_digit()) {
            break;
        }
        rest.replace_range(open..=close, "");
    }
    rest
}

/// How a column answers a parameter over an element, if it does.
fn target(kind: Kind, element: &str, column: &Column, columns: &[Column]) -> Option<Target> {
    let path = element_of(&column.path);
    let compared = match kind {
        Kind::Concept if path == format!("{element}.coding.code") => Compared::Code {
            system: system_beside(column, columns),
        },
        Kind::Concept if path == format!("{element}.coding.display") || path == format!("{element}.text") => {
            Compared::Words
        }
        Kind::Token if path == element => Compared::Code { system: None },
        Kind::Date if path == element => Compared::Date,
        Kind::Reference(of_type) => {
            let rest = path.strip_prefix(element)?.strip_prefix('.')?;
            match (rest, of_type) {
                ("reference", of_type) => Compared::RelativeReference(of_type),
                // An untyped key of `subject` may be a group's: that is no answer to a question for patients.
                ("getReferenceKey()", Some(of_type)) if element == "subject" && of_type == "Patient" => {
                    return None;
                }
                ("getReferenceKey()", of_type) => Compared::Key(of_type.map(str::to_owned)),
                (rest, of_type) => {
                    let keyed = rest
                        .strip_prefix("getReferenceKey(")?
                        .strip_suffix(')')?
                        .trim_matches('\'');
                    if of_type.is_some_and(|of_type| of_type != keyed) {
                        return None;
                    }
                    Compared::Key(Some(keyed.to_owned()))
                }
            }
        }
        _ => return None,
    };
    let holds = match kind {
        Kind::Concept if path == column.path.replace(' ', "") => Holds::All,
        Kind::Concept => Holds::Some,
        _ if column.collection => Holds::All,
        _ => Holds::TheOne,
    };
    Some(Target {
        column: column.name.clone(),
        kind: column.kind,
        holds,
        compared,
    })
}

/// The column that holds the system of a column's code: the same path but for its last step. Arrays do not say which code has which system.
fn system_beside(column: &Column, columns: &[Column]) -> Option<String> {
    let path = format!("{}.system", column.path.strip_suffix(".code")?);
    let beside = columns
        .iter()
        .find(|other| other.path == path && !other.collection)?;
    (!column.collection).then(|| beside.name.clone())
}

/// How a tagged column is compared: by what it holds.
fn tagged(column: &Column) -> Target {
    let date = matches!(column.fhir_type.as_deref(), Some("date" | "dateTime" | "instant"));
    let compared = match column.kind {
        ColumnKind::Date | ColumnKind::Timestamp | ColumnKind::TimestampTz => Compared::Date,
        ColumnKind::Text if date => Compared::Date,
        ColumnKind::Text if column.path.contains("getReferenceKey(") => {
            let keyed = column
                .path
                .rsplit_once("getReferenceKey(")
                .map(|(_, rest)| rest.trim_end_matches(')'));
            Compared::Key(keyed.filter(|keyed| !keyed.is_empty()).map(str::to_owned))
        }
        _ => Compared::Code { system: None },
    };
    Target {
        column: column.name.clone(),
        kind: column.kind,
        holds: if column.collection {
            Holds::All
        } else {
            Holds::TheOne
        },
        compared,
    }
}

#[cfg(test)]
mod tests;
