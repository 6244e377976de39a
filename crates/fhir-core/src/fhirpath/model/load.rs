//! The table's text to types.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU16;

use super::{Class, Element, Info, Model, Namespace, Type};
use crate::fhirpath::types::capitalised;

const TABLE: &str = include_str!("r4.txt");

/// FHIRPath's own types; the constants in [`super::system`] are their places.
const SYSTEM: [(&str, Class); 10] = [
    ("Boolean", Class::Boolean),
    ("Integer", Class::Integer),
    ("Decimal", Class::Decimal),
    ("String", Class::Text),
    ("Date", Class::Date),
    ("DateTime", Class::DateTime),
    ("Time", Class::Time),
    ("Quantity", Class::Quantity),
    ("ClassInfo", Class::Complex),
    ("Long", Class::Integer64),
];

/// Data types of R5 that a view may name; R4 has no element of them.
const LATER: [(&str, &str, &str); 6] = [
    ("primitive", "integer64", "Element"),
    ("complex", "CodeableReference", "Element"),
    ("complex", "RatioRange", "Element"),
    ("complex", "Availability", "Element"),
    ("complex", "ExtendedContactDetail", "Element"),
    ("complex", "MonetaryComponent", "Element"),
];

/// Reads the table. What it refers to and does not define is left out: a test reads it whole.
pub(super) fn model() -> Model {
    let mut loader = Loader::default();
    for (name, class) in SYSTEM {
        let added = loader.add(name, Namespace::System, class);
        loader.system.extend(added.map(|t| (name, t)));
    }
    loader.declare();
    loader.define();
    loader.finish()
}

#[derive(Default)]
struct Loader {
    types: Vec<Info>,
    fhir: HashMap<&'static str, Type>,
    system: HashMap<&'static str, Type>,
}

/// The lines that declare a type: kind, name, base.
fn declarations() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let declared = TABLE.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (kind, name, base) = (words.next()?, words.next()?, words.next()?);
        matches!(kind, "primitive" | "complex" | "resource").then_some((kind, name, base))
    });
    declared.chain(LATER)
}

impl Loader {
    fn add(&mut self, name: &'static str, namespace: Namespace, class: Class) -> Option<Type> {
        let id = NonZeroU16::new(u16::try_from(self.types.len() + 1).ok()?)?;
        self.types.push(Info {
            name,
            namespace,
            base: None,
            elements: Vec::new(),
        });
        Some(Type { id, class })
    }

    /// All names first: a type may be used before its line.
    fn declare(&mut self) {
        let bases: HashMap<_, _> = declarations().map(|(_, name, base)| (name, base)).collect();
        let is_quantity = |name: &str| {
            let mut name = Some(&name);
            while let Some(known) = name {
                if *known == "Quantity" {
                    return true;
                }
                name = bases.get(known);
            }
            false
        };
        for (kind, name, _) in declarations() {
            let class = match (kind, name) {
                ("resource", _) => Class::Resource,
                ("primitive", _) => primitive(name),
                _ if is_quantity(name) => Class::Quantity,
                _ => Class::Complex,
            };
            let added = self.add(name, Namespace::Fhir, class);
            self.fhir.extend(added.map(|t| (name, t)));
        }
        for (_, name, base) in declarations() {
            if let (Some(of), Some(base)) = (self.fhir.get(name), self.fhir.get(base)) {
                self.types[usize::from(of.id.get()) - 1].base = Some(*base);
            }
        }
    }

    fn define(&mut self) {
        let any = TABLE
            .lines()
            .find_map(|line| line.strip_prefix("any "))
            .unwrap_or_default();
        let mut owner = None;
        for line in TABLE.lines() {
            let Some(element) = line.strip_prefix(' ') else {
                owner = line
                    .split(' ')
                    .nth(1)
                    .and_then(|name| self.fhir.get(name))
                    .copied();
                continue;
            };
            let (name, types) = element.split_once(' ').unwrap_or((element, ""));
            let types = if types == "any" { any } else { types };
            // Marked so where there can be several, which no expression needs to know.
            let (name, _) = strip(name, "*");
            let (name, choice) = strip(name, "[x]");
            let types = types
                .split(' ')
                .filter_map(|t| self.fhir.get(t).copied())
                .collect();
            if let Some(owner) = owner {
                self.types[usize::from(owner.id.get()) - 1]
                    .elements
                    .push(Element { name, choice, types });
            }
        }
    }

    fn finish(self) -> Model {
        let suffixes = self
            .fhir
            .iter()
            .filter(|(name, of)| of.class != Class::Resource && !name.contains('.'))
            .map(|(name, of)| (capitalised(name), *of))
            .collect();
        let choices: HashSet<_> = self
            .types
            .iter()
            .flat_map(|t| &t.elements)
            .filter(|e| e.choice)
            .map(|e| e.name)
            .collect();
        Model {
            extension: self.fhir.get("Extension").copied(),
            id: self.fhir.get("id").copied(),
            types: self.types,
            fhir: self.fhir,
            system: self.system,
            suffixes,
            choices,
        }
    }
}

fn strip<'t>(name: &'t str, end: &str) -> (&'t str, bool) {
    name.strip_suffix(end).map_or((name, false), |name| (name, true))
}

fn primitive(name: &str) -> Class {
    match name {
        "boolean" => Class::Boolean,
        "integer" | "positiveInt" | "unsignedInt" => Class::Integer,
        "integer64" => Class::Integer64,
        "decimal" => Class::Decimal,
        "date" => Class::Date,
        "dateTime" | "instant" => Class::DateTime,
        "time" => Class::Time,
        _ => Class::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_is_defined() {
        let model = model();
        assert!(model.types.len() > 600, "{}", model.types.len());
        for line in TABLE.lines().filter_map(|l| l.strip_prefix(' ')) {
            let types = line.split(' ').skip(1).filter(|t| *t != "any");
            for name in types {
                assert!(model.fhir.contains_key(name), "{line}");
            }
        }
        for (_, name, base) in declarations().filter(|(_, _, base)| *base != "-") {
            assert!(model.fhir.contains_key(base), "{name}");
        }
    }

    #[test]
    fn the_constants_are_the_places_of_the_system_types() {
        let model = model();
        for (name, of) in [
            ("Boolean", crate::fhirpath::model::system::BOOLEAN),
            ("Time", crate::fhirpath::model::system::TIME),
            ("ClassInfo", crate::fhirpath::model::system::TYPE_INFO),
            ("Long", crate::fhirpath::model::system::LONG),
        ] {
            assert_eq!(model.system.get(name), Some(&of), "{name}");
        }
    }
}
