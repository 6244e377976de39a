//! The names of FHIR types that reading untyped JSON needs: primitives, the types a choice element can have, and the choice elements.
//!
//! Source: FHIR R4 (4.0.1), data types and the `[x]` elements of the resources' definitions.

/// FHIR's primitive types.
pub const PRIMITIVES: [&str; 20] = [
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

/// FHIRPath's own types.
const SYSTEM: [&str; 7] = [
    "Boolean", "Integer", "Decimal", "String", "Date", "DateTime", "Time",
];

/// Data types that are not primitive.
const COMPLEX: [&str; 43] = [
    "Address",
    "Age",
    "Annotation",
    "Attachment",
    "BackboneElement",
    "CodeableConcept",
    "CodeableReference",
    "Coding",
    "ContactDetail",
    "ContactPoint",
    "Contributor",
    "Count",
    "DataRequirement",
    "Distance",
    "Dosage",
    "Duration",
    "Element",
    "ElementDefinition",
    "Expression",
    "Extension",
    "HumanName",
    "Identifier",
    "Meta",
    "Money",
    "Narrative",
    "ParameterDefinition",
    "Period",
    "Population",
    "ProdCharacteristic",
    "ProductShelfLife",
    "Quantity",
    "Range",
    "Ratio",
    "RatioRange",
    "Reference",
    "RelatedArtifact",
    "SampledData",
    "Signature",
    "SimpleQuantity",
    "SubstanceAmount",
    "Timing",
    "TriggerDefinition",
    "UsageContext",
];

/// Elements whose property name carries the type: `value` is `valueQuantity`, `valueString`, …
const CHOICES: [&str; 66] = [
    "abatement",
    "additive",
    "age",
    "allowed",
    "amount",
    "answer",
    "asNeeded",
    "author",
    "born",
    "bounds",
    "characteristic",
    "chargeItem",
    "code",
    "collected",
    "content",
    "created",
    "deceased",
    "defaultValue",
    "definition",
    "detail",
    "diagnosis",
    "doseNumber",
    "dose",
    "due",
    "effective",
    "entity",
    "event",
    "example",
    "fastingStatus",
    "fixed",
    "identified",
    "indication",
    "item",
    "legallyBinding",
    "location",
    "manufacturer",
    "maxValue",
    "medication",
    "minimumVolume",
    "minValue",
    "module",
    "multipleBirth",
    "occurrence",
    "onset",
    "participantEffective",
    "pattern",
    "performed",
    "probability",
    "procedure",
    "product",
    "quantity",
    "rate",
    "reported",
    "scheduled",
    "seriesDoses",
    "serviced",
    "source",
    "start",
    "statusReason",
    "studyEffective",
    "subject",
    "target",
    "timing",
    "topic",
    "used",
    "value",
];

/// Whether an element of that name can be a choice, whose property is named after its type.
pub fn is_choice(name: &str) -> bool {
    CHOICES.contains(&name)
}

/// Whether `suffix` is a type as it ends the property name of the choice `name`. Only an open choice can be a `code`: `locationCode` is
/// an element of its own.
pub fn is_suffix(name: &str, suffix: &str) -> bool {
    if suffix == "Code" && !matches!(name, "value" | "defaultValue" | "fixed" | "pattern") {
        return false;
    }
    COMPLEX.contains(&suffix) || PRIMITIVES.iter().any(|p| is_capitalised(suffix, p))
}

fn is_capitalised(suffix: &str, name: &str) -> bool {
    let (mut a, mut b) = (suffix.chars(), name.chars());
    a.next() == b.next().map(|c| c.to_ascii_uppercase()) && a.as_str() == b.as_str()
}

/// A name with its first letter as a choice's property has it.
pub fn capitalised(name: &str) -> String {
    let mut chars = name.chars();
    chars
        .next()
        .map(|c| c.to_ascii_uppercase())
        .into_iter()
        .chain(chars)
        .collect()
}

/// Whether the type, given as a URI or name, is primitive (or FHIRPath's own).
pub fn is_primitive(name: &str) -> bool {
    PRIMITIVES.contains(&name) || name == "xhtml"
}

/// What `ofType`, `is` and `as` ask of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeTest {
    /// The type's name, without namespace.
    pub name: String,
    /// The ends of a choice's property name under which the type comes: the type's and its specialisations'.
    pub suffixes: Vec<String>,
    /// What else is known of it.
    pub class: Class,
}

/// Kinds of types, as far as JSON shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// boolean
    Boolean,
    /// integer and its specialisations
    Integer,
    /// decimal
    Decimal,
    /// date, dateTime, instant
    Date,
    /// time
    Time,
    /// Every other primitive: a string
    Text,
    /// A data type with elements
    Complex,
    /// A resource
    Resource,
}

impl TypeTest {
    /// The test for a type by its name (`Quantity`, `FHIR.code`, `System.String`); `None` if no type is named like that.
    pub fn of(written: &str) -> Option<Self> {
        let (namespace, name) = match written.split_once('.') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, written),
        };
        let class = match name {
            "boolean" | "Boolean" => Class::Boolean,
            "integer" | "integer64" | "positiveInt" | "unsignedInt" | "Integer" => Class::Integer,
            "decimal" | "Decimal" => Class::Decimal,
            "date" | "dateTime" | "instant" | "Date" | "DateTime" => Class::Date,
            "time" | "Time" => Class::Time,
            "String" => Class::Text,
            _ if is_primitive(name) => Class::Text,
            _ if COMPLEX.contains(&name) => Class::Complex,
            _ if name.starts_with(|c: char| c.is_ascii_uppercase()) => Class::Resource,
            _ => return None,
        };
        if namespace == Some("System") && !SYSTEM.contains(&name) {
            return None;
        }
        let special: &[&str] = match name {
            "string" | "String" => &["Code", "Id", "Markdown"],
            "uri" => &["Url", "Canonical", "Uuid", "Oid"],
            "integer" | "Integer" => &["PositiveInt", "UnsignedInt"],
            "Quantity" => &["Age", "Count", "Distance", "Duration", "SimpleQuantity"],
            "DateTime" => &["Instant"],
            "Element" => return None,
            _ => &[],
        };
        let suffixes = std::iter::once(capitalised(name))
            .chain(special.iter().map(ToString::to_string))
            .collect();
        Some(Self {
            name: name.to_owned(),
            suffixes,
            class,
        })
    }
}
