//! FHIR R4's types: their hierarchy and their elements (FHIRPath N1, section 10; FHIR R4, "FHIRPath: types and choices").
//!
//! ```text
//! r4.txt (generated) ──load, once──► types by name ──► element(type, name), is(type, base)
//! ```
//!
//! A [`Type`] is two bytes of place in the table and one of class, so that elements carry it for free. Beside R4's own there are FHIRPath's
//! System types and the data types of R5 that views name: those have a name and a base, and no elements here.

mod load;
mod set;

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroU16,
    sync::LazyLock,
};

pub(crate) use set::Types;

/// A type of FHIR or of FHIRPath's `System`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Type {
    /// Place in the table, from 1.
    id: NonZeroU16,
    class: Class,
}

/// How a type's values are read from JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Class {
    /// boolean
    Boolean,
    /// integer and its specialisations
    Integer,
    /// integer64: a string in JSON
    Integer64,
    /// decimal
    Decimal,
    /// date
    Date,
    /// dateTime, instant
    DateTime,
    /// time
    Time,
    /// Every other primitive: a string
    Text,
    /// Quantity and its specialisations
    Quantity,
    /// Another data type with elements
    Complex,
    /// A resource
    Resource,
}

/// Where a type is defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// FHIR
    Fhir,
    /// FHIRPath
    System,
}

/// What the table says of a type.
#[derive(Debug)]
struct Info {
    name: &'static str,
    namespace: Namespace,
    base: Option<Type>,
    elements: Vec<Element>,
}

/// An element of a type.
#[derive(Debug)]
pub(crate) struct Element {
    /// Its name, without `[x]`.
    pub name: &'static str,
    /// Whether its property is named after its type, too.
    pub choice: bool,
    /// The types that it can have.
    pub types: Vec<Type>,
}

/// All types.
#[derive(Debug)]
struct Model {
    types: Vec<Info>,
    /// FHIR's, by name.
    fhir: HashMap<&'static str, Type>,
    system: HashMap<&'static str, Type>,
    /// Ends of a choice's property name: `Quantity`, `DateTime`.
    suffixes: HashMap<String, Type>,
    /// Names of elements that are a choice in some type.
    choices: HashSet<&'static str>,
    extension: Option<Type>,
    id: Option<Type>,
}

static MODEL: LazyLock<Model> = LazyLock::new(load::model);

/// The System types, in the order that the table has them: their places are known without a look-up.
pub(crate) mod system {
    use super::{Class, Type};

    macro_rules! system {
        ($($(#[$doc:meta])* $name:ident $class:ident $id:literal),* $(,)?) => {
            $($(#[$doc])* pub(crate) const $name: Type = Type {
                id: match std::num::NonZeroU16::new($id) { Some(id) => id, None => unreachable!() },
                class: Class::$class,
            };)*
        };
    }

    system! {
        /// System.Boolean
        BOOLEAN Boolean 1,
        /// System.Integer
        INTEGER Integer 2,
        /// System.Decimal
        DECIMAL Decimal 3,
        /// System.String
        STRING Text 4,
        /// System.Date
        DATE Date 5,
        /// System.DateTime
        DATE_TIME DateTime 6,
        /// System.Time
        TIME Time 7,
        /// System.Quantity
        QUANTITY Quantity 8,
        /// What `type()` yields
        TYPE_INFO Complex 9,
        /// System.Long: what an integer64 is read as
        LONG Integer64 10,
    }
}

impl Type {
    /// FHIR's type of that name (`Patient`, `code`, `Patient.contact`).
    pub(crate) fn fhir(name: &str) -> Option<Self> {
        MODEL.fhir.get(name).copied()
    }

    /// FHIRPath's own type of that name (`Boolean`).
    pub(crate) fn system(name: &str) -> Option<Self> {
        MODEL.system.get(name).copied()
    }

    /// The type that ends a choice's property name (`DateTime` in `onsetDateTime`).
    pub(crate) fn of_suffix(suffix: &str) -> Option<Self> {
        MODEL.suffixes.get(suffix).copied()
    }

    /// Extension
    pub(crate) fn extension() -> Option<Self> {
        MODEL.extension
    }

    /// id
    pub(crate) fn id() -> Option<Self> {
        MODEL.id
    }

    fn info(self) -> &'static Info {
        &MODEL.types[usize::from(self.id.get()) - 1]
    }

    /// How its values are read.
    pub(crate) fn class(self) -> Class {
        self.class
    }

    /// Its name, without namespace.
    pub(crate) fn name(self) -> &'static str {
        self.info().name
    }

    /// Where it is defined.
    pub(crate) fn namespace(self) -> Namespace {
        self.info().namespace
    }

    /// What it specialises.
    pub(crate) fn base(self) -> Option<Self> {
        self.info().base
    }

    /// Whether it is `other` or specialises it.
    pub(crate) fn is(self, other: Self) -> bool {
        std::iter::successors(Some(self), |t| t.base()).any(|t| t == other)
    }

    /// Whether an element of this type can be of a type that specialises it, as the resource in a bundle is.
    pub(crate) fn is_abstract(self) -> bool {
        matches!(
            self.name(),
            "Resource" | "DomainResource" | "Element" | "BackboneElement"
        )
    }

    /// The element of that name: the type's own or its base's.
    pub(crate) fn element(self, name: &str) -> Option<&'static Element> {
        std::iter::successors(Some(self), |t| t.base())
            .find_map(|t| t.info().elements.iter().find(|e| e.name == name))
    }

    /// The type of the property of that name in JSON: an element's, or a choice's with its type (`valueQuantity`).
    pub(crate) fn property(self, name: &str) -> Option<Self> {
        if let Some(element) = self.element(name) {
            return element.types.first().copied().filter(|_| !element.choice);
        }
        std::iter::successors(Some(self), |t| t.base())
            .flat_map(|t| &t.info().elements)
            .filter(|e| e.choice)
            .find_map(|e| Self::of_suffix(name.strip_prefix(e.name)?))
    }

    /// Whether it is a primitive (FHIR's) or a value of FHIRPath's.
    pub(crate) fn is_primitive(self) -> bool {
        !matches!(self.class, Class::Quantity | Class::Complex | Class::Resource)
    }

    /// The System type that operators and functions read a primitive as; others as they are.
    #[must_use]
    pub(crate) fn computed(self) -> Self {
        match self.class {
            Class::Boolean => system::BOOLEAN,
            Class::Integer => system::INTEGER,
            Class::Integer64 => system::LONG,
            Class::Decimal => system::DECIMAL,
            Class::Date => system::DATE,
            Class::DateTime => system::DATE_TIME,
            Class::Time => system::TIME,
            Class::Text => system::STRING,
            Class::Quantity => system::QUANTITY,
            Class::Complex | Class::Resource => self,
        }
    }

    /// All types of FHIR.
    pub(crate) fn all_of_fhir() -> impl Iterator<Item = Self> {
        MODEL.fhir.values().copied()
    }
}

/// Whether an element of that name is a choice in some type: where the type is not known, its property may be named after one.
pub(crate) fn is_choice(name: &str) -> bool {
    MODEL.choices.contains(name)
}
