//! One parameter: what it asks of an element, and whether a body meets it.

use api::InvalidField;
use fhir_core::{fhirpath::split_reference, json::Node};

use super::{
    elements::{self, Element, Kind},
    values::{self, Referred, System, Token},
};

/// One parameter: it holds if the element at any of the paths meets any alternative.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) paths: Vec<&'static str>,
    asked: Asked,
}

#[derive(Debug)]
enum Asked {
    Ids(Vec<String>),
    /// `None`: any.
    Genders(Vec<Option<&'static str>>),
    Codes(Vec<Token>),
    Words(Vec<String>),
    References(Vec<Referred>),
}

impl Term {
    /// What one parameter asks of a type.
    pub(super) fn new(resource_type: &str, name: &str, value: &str) -> Result<Self, InvalidField> {
        let unknown = || InvalidField::new("parameters.name", not_bound(resource_type, name));
        let bad = |rule: String| InvalidField::new("parameters.value", format!("of {name} {rule}"));
        if name == "_id" {
            let ids = values::alternatives(value, values::id).map_err(bad)?;
            return Ok(Self {
                paths: Vec::new(),
                asked: Asked::Ids(ids),
            });
        }
        let (bare, modifier) = name
            .split_once(':')
            .map_or((name, None), |(bare, m)| (bare, Some(m)));
        let found: Vec<&Element> = elements::of_type(resource_type)
            .filter(|element| element.parameter == bare)
            .collect();
        let kind = found.first().ok_or_else(unknown)?.kind;
        let asked = match (kind, modifier) {
            (Kind::Gender, None) => values::alternatives(value, values::gender).map(Asked::Genders),
            (Kind::Concept, None) => values::alternatives(value, values::token).map(Asked::Codes),
            (Kind::Concept, Some("text")) => values::alternatives(value, values::words).map(Asked::Words),
            (Kind::Reference | Kind::ReferenceTo(_), None) => {
                values::alternatives(value, |part| values::referred(part, kind)).map(Asked::References)
            }
            _ => return Err(unknown()),
        };
        Ok(Self {
            paths: found.iter().map(|element| element.path).collect(),
            asked: asked.map_err(bad)?,
        })
    }

    /// Whether a resource of that id and body meets it.
    pub(super) fn holds(&self, id: &str, root: Node<'_>) -> bool {
        let at = |test: &dyn Fn(Node<'_>) -> bool| any_at(&self.paths, root, test);
        match &self.asked {
            Asked::Ids(ids) => ids.iter().any(|asked| asked == id),
            Asked::Genders(genders) => at(&|node| {
                let found = node.as_str();
                found.is_some() && genders.iter().any(|gender| gender.is_none() || *gender == found)
            }),
            Asked::Codes(tokens) => {
                at(&|concept| codings(concept).any(|coding| tokens.iter().any(|token| token.is(coding))))
            }
            Asked::Words(words) => at(&|concept| {
                let displays = codings(concept).map(|coding| coding.member("display"));
                let texts = displays.chain([concept.member("text")]).flatten();
                texts.filter_map(Node::as_str).any(|text| {
                    let text = text.to_lowercase();
                    words.iter().any(|words| text.contains(words.as_str()))
                })
            }),
            Asked::References(references) => at(&|reference| {
                referred_by(reference).is_some_and(|(found, id)| {
                    let same = |asked: &Referred| {
                        asked.id == id && asked.of_type.as_deref().is_none_or(|asked| asked == found)
                    };
                    references.iter().any(same)
                })
            }),
        }
    }
}

impl Token {
    fn is(&self, coding: Node<'_>) -> bool {
        let text = |name| coding.member(name).and_then(Node::as_str);
        let (system, code) = (text("system"), text("code"));
        let of_system = match &self.system {
            System::Any => true,
            System::None => system.is_none(),
            System::Is(asked) => system == Some(asked),
        };
        of_system && code.is_some_and(|code| self.code.as_deref().is_none_or(|asked| asked == code))
    }
}

/// Names what was asked for, if it is a name, and what the type has.
fn not_bound(resource_type: &str, name: &str) -> String {
    let is_name = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b':'));
    let mut known = vec!["_id".to_owned()];
    for Element { parameter, kind, .. } in elements::of_type(resource_type) {
        if known.iter().any(|known| known == parameter) {
            continue;
        }
        known.push((*parameter).to_owned());
        if *kind == Kind::Concept {
            known.push(format!("{parameter}:text"));
        }
    }
    let known = known.join(", ");
    if is_name {
        format!("{name} cannot be bound to an element of {resource_type}; these can: {known}")
    } else {
        format!("must be the name of a search parameter of {resource_type}: {known}")
    }
}

/// Whether a test holds for any element at any of the paths.
pub(super) fn any_at<'a>(paths: &[&str], root: Node<'a>, mut test: impl FnMut(Node<'a>) -> bool) -> bool {
    paths.iter().any(|path| any_below(root, path, &mut test))
}

fn any_below<'a>(node: Node<'a>, path: &str, test: &mut impl FnMut(Node<'a>) -> bool) -> bool {
    let (name, rest) = path
        .split_once('.')
        .map_or((path, None), |(name, rest)| (name, Some(rest)));
    let Some(member) = node.member(name) else {
        return false;
    };
    member.items().any(|item| match rest {
        Some(rest) => any_below(item, rest, test),
        None => test(item),
    })
}

/// The codings of a concept; a `Coding` is its own.
fn codings(concept: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    concept.member("coding").unwrap_or(concept).items()
}

/// Type and id that a literal reference refers to.
pub(super) fn referred_by(reference: Node<'_>) -> Option<(&str, &str)> {
    split_reference(reference.member("reference")?.as_str()?)
}
