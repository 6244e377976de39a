//! What HL7's operation `$sql-run` (SQL on FHIR 3.0.0-ballot) is asked, from a URL's query and a `Parameters` body: read once, into types.
//!
//! ```text
//! query of the URL ─┐
//! Parameters body ──┴─ given ──► RunRequest { subject, scope, format, … }       Accept ── format ──► (Format, Representation)
//! ```
//!
//! All that is wrong is told at once, each with the parameter at fault. Whether what is named exists is for the service to say.
//!
//! Source: OperationDefinition SQLRun of the 3.0.0-ballot, and for the alias ViewDefinitionRun of the drafts before it.

mod format;
mod given;
mod library;

use chrono::{DateTime, TimeDelta, Utc};
use fhir_core::resource::is_id;

pub use self::format::{FORMATS, Format, Representation, by_preference};
pub use self::given::unserved;
use self::given::{Given, Parameters};
pub use self::library::{Dependency, Library};
use crate::Outcome;

/// How many resources or patients a request may name.
const MAX_NAMED: usize = 10_000;

/// Which operation is asked: they differ in the names of parameters alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `$sql-run`
    SqlRun,
    /// `$viewdefinition-run`, of the drafts before.
    ViewDefinitionRun,
}

/// How the subject is named, and the parameter that does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// For errors: the parameter.
    pub parameter: &'static str,
    /// The name itself.
    pub named: Named,
}

/// A name of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By its canonical URL.
    Canonical(Canonical),
    /// By its place: `ViewDefinition/<id>`, or a URL.
    Reference(String),
    /// By itself: a resource, as JSON text.
    Resource(String),
}

/// A canonical URL, with the version that it is pinned to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// Without the version.
    pub url: String,
    /// Behind `|`.
    pub version: Option<String>,
}

impl Canonical {
    /// Takes a text apart; `None` for one that names nothing.
    pub fn parse(text: &str) -> Option<Self> {
        let (url, version) = match text.split_once('|') {
            Some((url, version)) => (url, Some(version.to_owned())),
            None => (text, None),
        };
        let named = !url.is_empty() && version.as_deref() != Some("");
        named.then(|| Self {
            url: url.to_owned(),
            version,
        })
    }
}

/// What is asked, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRequest {
    /// What is to be run.
    pub subject: Subject,
    /// Values for a query's parameters: a `Parameters` resource, as JSON text.
    pub parameters: Option<String>,
    /// What a query depends on, given inline: resources as JSON text.
    pub context: Vec<String>,
    /// Resources to evaluate in place of the server's, as JSON text; Bundles are taken apart. `None`: the server's.
    pub resources: Option<Vec<String>>,
    /// The format that `_format` names.
    pub format: Option<Format>,
    /// Whether CSV begins with a line of names.
    pub header: bool,
    /// Ids of patients; none means all.
    pub patients: Vec<String>,
    /// Ids of Groups whose members are meant; none means all.
    pub groups: Vec<String>,
    /// Only of resources whose lastUpdated is at or after this: the smallest step after what was asked.
    pub since: Option<DateTime<Utc>>,
    /// At most so many rows.
    pub limit: Option<i64>,
}

impl RunRequest {
    /// Reads what is given in the query of a URL, taken apart, and in the body of a POST. `instance` is the id that the path names, which is the subject then.
    pub fn read(
        operation: Operation,
        instance: Option<&str>,
        query: Vec<(String, String)>,
        body: Option<&str>,
    ) -> Result<Self, Outcome> {
        let mut parameters = Parameters::of_url(query);
        if let Some(body) = body {
            parameters.add_body(body)?;
        }
        let mut wrong = Wrong::default();
        let subject = wrong.note(subject(operation, instance, &mut parameters));
        let (bound, context) = match operation {
            Operation::SqlRun => {
                let bound = wrong
                    .note(parameters.one("parameters", Given::resource))
                    .flatten();
                let context = wrong.note(parameters.all("context", Given::resource));
                (bound, context.unwrap_or_default())
            }
            Operation::ViewDefinitionRun => (None, Vec::new()),
        };
        let resources = wrong.note(resources(&mut parameters)).flatten();
        let format = wrong
            .note(parameters.one("_format", |given| {
                Format::parse(&given.text(&["Code", "String"])?)
            }))
            .flatten();
        let header = wrong.note(parameters.one("header", Given::boolean)).flatten();
        let patients = wrong.note(parameters.all("patient", |given| id_of("patient", "Patient", given)));
        let groups = wrong.note(parameters.all("group", |given| id_of("group", "Group", given)));
        let since = wrong.note(parameters.one("_since", Given::instant)).flatten();
        let limit = wrong.note(parameters.one("_limit", limit)).flatten();
        wrong.note(parameters.rest());
        match (wrong.0, subject, patients, groups) {
            (None, Some(subject), Some(patients), Some(groups)) => Ok(Self {
                subject,
                parameters: bound,
                context,
                resources,
                format,
                header: header.unwrap_or(true),
                patients,
                groups,
                // "Changed after": times of resources are kept to the microsecond.
                since: since.map(|since| since + TimeDelta::microseconds(1)),
                limit,
            }),
            (wrong, ..) => Err(wrong.unwrap_or_else(|| Outcome::invalid("parameter", "cannot be read"))),
        }
    }
}

/// Collects all that is wrong.
#[derive(Default)]
struct Wrong(Option<Outcome>);

impl Wrong {
    fn note<T>(&mut self, result: Result<T, Outcome>) -> Option<T> {
        match (result, &mut self.0) {
            (Ok(value), _) => return Some(value),
            (Err(outcome), Some(known)) => known.and(outcome),
            (Err(outcome), none) => *none = Some(outcome),
        }
        None
    }
}

/// The parameters that name a subject: by canonical, by reference, inline.
fn names(operation: Operation) -> [&'static str; 3] {
    match operation {
        Operation::SqlRun => ["subjectCanonical", "subjectReference", "subjectResource"],
        Operation::ViewDefinitionRun => ["viewCanonical", "viewReference", "viewResource"],
    }
}

fn subject(
    operation: Operation,
    instance: Option<&str>,
    parameters: &mut Parameters,
) -> Result<Subject, Outcome> {
    let [canonical, reference, resource] = names(operation);
    let mut named = Vec::new();
    if let Some(text) = parameters.one(canonical, |given| {
        given.text(&["Canonical", "Uri", "Url", "String"])
    })? {
        let parsed = Canonical::parse(&text).ok_or_else(|| {
            Outcome::invalid(
                canonical,
                format!("{canonical}: must be a URL, with |version behind it where one is meant"),
            )
        })?;
        named.push((canonical, Named::Canonical(parsed)));
    }
    if let Some(text) = parameters.one(reference, Given::reference)? {
        named.push((reference, Named::Reference(text)));
    }
    if let Some(text) = parameters.one(resource, Given::resource)? {
        named.push((resource, Named::Resource(text)));
    }
    let all = [canonical, reference, resource];
    if let Some(id) = instance {
        let Some((parameter, _)) = named.first() else {
            let named = Named::Reference(format!("ViewDefinition/{id}"));
            return Ok(Subject {
                parameter: "id",
                named,
            });
        };
        return Err(Outcome::invalid(
            parameter,
            "the path names the view already: leave this parameter out",
        ));
    }
    if named.len() > 1 {
        let given: Vec<&str> = named.iter().map(|(parameter, _)| *parameter).collect();
        let rule = format!("give exactly one of {}", all.join(", "));
        return Err(Outcome::new(400, "invalid", &given, rule));
    }
    let (parameter, named) = named
        .pop()
        .ok_or_else(|| Outcome::new(400, "required", &all, format!("give one of {}", all.join(", "))))?;
    Ok(Subject { parameter, named })
}

/// The resources to evaluate, Bundles taken apart one level deep.
fn resources(parameters: &mut Parameters) -> Result<Option<Vec<String>>, Outcome> {
    let given = parameters.all("resource", Given::resource)?;
    if given.is_empty() {
        return Ok(None);
    }
    let mut resources = Vec::new();
    for text in given {
        match given::bundled(&text)? {
            Some(inner) => resources.extend(inner),
            None => resources.push(text),
        }
        if resources.len() > MAX_NAMED {
            let rule = format!(
                "resource: may hold {MAX_NAMED} resources at most: load them into the server instead"
            );
            return Err(Outcome::invalid("resource", rule));
        }
    }
    Ok(Some(resources))
}

/// The id that `Type/id`, or the id alone, names.
fn id_of(parameter: &'static str, of: &str, given: &Given) -> Result<String, Outcome> {
    let text = given.reference()?;
    let id = text
        .strip_prefix(of)
        .and_then(|rest| rest.strip_prefix('/'))
        .unwrap_or(&text);
    if is_id(id) {
        Ok(id.to_owned())
    } else {
        let rule = format!("{parameter}: must be {of}/<id>, of this server");
        Err(Outcome::invalid(parameter, rule))
    }
}

fn limit(given: &Given) -> Result<i64, Outcome> {
    let rule = "_limit: must be a whole number, 0 or more";
    let limit = given.integer()?;
    if limit < 0 {
        Err(Outcome::invalid("_limit", rule))
    } else {
        Ok(limit)
    }
}

#[cfg(test)]
mod tests;
