//! Types as expressions and definitions name them: primitives, and what `ofType`, `is` and `as` ask of an item.

use std::{collections::HashMap, sync::LazyLock};

use super::model::{Class, Namespace, Type};

/// FHIR's primitive types: what a constant can be.
pub(crate) const PRIMITIVES: [&str; 20] = [
    "base64Binary",
    "boolean",
    "canonical",
    "code",
    "date",
    "dateTime",
    "decimal",
    "id",
    "instant",
    "integer",
    "integer64",
    "markdown",
    "oid",
    "positiveInt",
    "string",
    "time",
    "unsignedInt",
    "uri",
    "url",
    "uuid",
];

/// A name with its first letter as a choice's property has it.
pub(crate) fn capitalised(name: &str) -> String {
    let mut chars = name.chars();
    chars
        .next()
        .map(|c| c.to_ascii_uppercase())
        .into_iter()
        .chain(chars)
        .collect()
}

/// Whether the type, given by its name, is one of FHIR's primitives.
pub(crate) fn is_primitive(name: &str) -> bool {
    PRIMITIVES.contains(&name) || name == "xhtml"
}

/// The type that ends the property name of a choice `name` whose types are not known. Only an open choice can be a `code`: `locationCode`
/// is an element of its own.
pub(crate) fn of_suffix(name: &str, suffix: &str) -> Option<Type> {
    if suffix == "Code" && !matches!(name, "value" | "defaultValue" | "fixed" | "pattern") {
        return None;
    }
    Type::of_suffix(suffix)
}

/// The types that specialise a type, without abstract ones and elements of types, by the ends of a choice's property name: looked for once,
/// since a view can ask for thousands.
static SPECIAL: LazyLock<HashMap<Type, Vec<(String, Type)>>> = LazyLock::new(|| {
    let mut special: HashMap<Type, Vec<(String, Type)>> = HashMap::new();
    for of in Type::all_of_fhir().filter(|of| !of.is_abstract() && !of.name().contains('.')) {
        let suffix = capitalised(of.name());
        for base in std::iter::successors(of.base(), |base| base.base()) {
            special.entry(base).or_default().push((suffix.clone(), of));
        }
    }
    for types in special.values_mut() {
        types.sort();
    }
    special
});

/// What `ofType`, `is` and `as` ask of an item (FHIRPath N1, section 6.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TypeTest {
    /// The type's name, without namespace.
    pub name: String,
    /// The type; none for a resource type that R4 does not have.
    pub of: Option<Type>,
    /// The System type that the name means as well: an unqualified `Quantity` is either.
    also: Option<Type>,
    /// The ends of a choice's property name under which the type comes: the type's and its specialisations'.
    pub suffixes: Vec<(String, Type)>,
    /// How the values look in JSON, where the element's type is not known.
    pub class: Class,
}

impl TypeTest {
    /// The test for a type by its name (`Quantity`, `FHIR.code`, `System.String`); `None` if no type is named like that. A name without
    /// namespace is FHIR's where FHIR has it. Any capitalised name may be the resource type of another version.
    pub(crate) fn of(written: &str) -> Option<Self> {
        let (namespace, name) = match written.split_once('.') {
            Some(("System", name)) => (Some(Namespace::System), name),
            Some(("FHIR", name)) => (Some(Namespace::Fhir), name),
            Some(_) => (Some(Namespace::Fhir), written),
            None => (None, written),
        };
        let fhir = || Type::fhir(name);
        let of = match namespace {
            Some(Namespace::System) => Some(Type::system(name)?),
            Some(Namespace::Fhir) => fhir(),
            None => fhir().or_else(|| Type::system(name)),
        };
        let Some(of) = of else {
            return name.starts_with(|c: char| c.is_ascii_uppercase()).then(|| Self {
                name: name.to_owned(),
                of: None,
                also: None,
                suffixes: Vec::new(),
                class: Class::Resource,
            });
        };
        let mut suffixes = Vec::new();
        if of.namespace() == Namespace::Fhir && of.class() != Class::Resource {
            suffixes.push((capitalised(name), of));
            suffixes.extend(SPECIAL.get(&of).into_iter().flatten().cloned());
        }
        Some(Self {
            name: name.to_owned(),
            of: Some(of),
            also: Type::system(name).filter(|also| namespace.is_none() && *also != of),
            suffixes,
            class: of.class(),
        })
    }

    /// Whether a type is the one that is asked for, or specialises it.
    pub(crate) fn takes(&self, of: Type) -> bool {
        self.of.is_some_and(|test| of.is(test)) || self.also == Some(of)
    }
}
