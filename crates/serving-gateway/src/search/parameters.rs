//! FHIR R4's search parameters as far as columns of views can stand for them: name, kind of comparison, and the elements that each searches.

/// How values of a parameter are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A coded element (`CodeableConcept`): matched by the code, and the system where a column holds it.
    Concept,
    /// A primitive code or boolean.
    Token,
    /// A date or a time.
    Date,
    /// A reference to another resource; `Some`: of this type only.
    Reference(Option<&'static str>),
}

/// One parameter of one or all types.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// Empty: of every type.
    pub(super) types: &'static [&'static str],
    pub(super) kind: Kind,
    /// Paths from the resource; of a concept without `.coding`.
    pub(super) elements: &'static [&'static str],
}

const fn parameter(
    name: &'static str,
    types: &'static [&'static str],
    kind: Kind,
    elements: &'static [&'static str],
) -> Parameter {
    Parameter {
        name,
        types,
        kind,
        elements,
    }
}

const CLINICAL: &[&str] = &["subject", "patient"];

/// The parameters, those of more use first.
pub(super) const PARAMETERS: &[Parameter] = &[
    parameter(
        "gender",
        &["Patient", "Practitioner", "Person", "RelatedPerson"],
        Kind::Token,
        &["gender"],
    ),
    parameter(
        "birthdate",
        &["Patient", "Practitioner", "Person", "RelatedPerson"],
        Kind::Date,
        &["birthDate"],
    ),
    parameter("active", &[], Kind::Token, &["active"]),
    parameter(
        "death-date",
        &["Patient"],
        Kind::Date,
        &["deceased.ofType(dateTime)", "deceasedDateTime"],
    ),
    parameter(
        "code",
        &[
            "MedicationRequest",
            "MedicationAdministration",
            "MedicationStatement",
        ],
        Kind::Concept,
        &["medication.ofType(CodeableConcept)", "medicationCodeableConcept"],
    ),
    parameter("code", &[], Kind::Concept, &["code"]),
    parameter("patient", &["Task"], Kind::Reference(Some("Patient")), &["for"]),
    parameter(
        "patient",
        &["Coverage"],
        Kind::Reference(Some("Patient")),
        &["beneficiary"],
    ),
    parameter(
        "patient",
        &["ResearchSubject"],
        Kind::Reference(Some("Patient")),
        &["individual"],
    ),
    parameter("patient", &[], Kind::Reference(Some("Patient")), CLINICAL),
    parameter("subject", &[], Kind::Reference(None), CLINICAL),
    parameter(
        "encounter",
        &[],
        Kind::Reference(Some("Encounter")),
        &["encounter", "context"],
    ),
    parameter("status", &[], Kind::Token, &["status"]),
    parameter("intent", &[], Kind::Token, &["intent"]),
    parameter("priority", &[], Kind::Token, &["priority"]),
    parameter("class", &["Encounter"], Kind::Token, &["class.code"]),
    parameter("type", &[], Kind::Concept, &["type"]),
    parameter("category", &[], Kind::Concept, &["category"]),
    parameter("severity", &["Condition"], Kind::Concept, &["severity"]),
    parameter(
        "clinical-status",
        &["Condition", "AllergyIntolerance"],
        Kind::Concept,
        &["clinicalStatus"],
    ),
    parameter(
        "verification-status",
        &["Condition", "AllergyIntolerance"],
        Kind::Concept,
        &["verificationStatus"],
    ),
    parameter("vaccine-code", &["Immunization"], Kind::Concept, &["vaccineCode"]),
    parameter(
        "value-concept",
        &["Observation"],
        Kind::Concept,
        &["value.ofType(CodeableConcept)", "valueCodeableConcept"],
    ),
    parameter(
        "onset-date",
        &["Condition"],
        Kind::Date,
        &["onset.ofType(dateTime)", "onsetDateTime"],
    ),
    parameter(
        "abatement-date",
        &["Condition"],
        Kind::Date,
        &["abatement.ofType(dateTime)", "abatementDateTime"],
    ),
    parameter("recorded-date", &["Condition"], Kind::Date, &["recordedDate"]),
    parameter(
        "authoredon",
        &["MedicationRequest", "Task", "ServiceRequest"],
        Kind::Date,
        &["authoredOn"],
    ),
    parameter(
        "date",
        &["Observation", "DiagnosticReport"],
        Kind::Date,
        &["effective.ofType(dateTime)", "effectiveDateTime"],
    ),
    parameter(
        "date",
        &["Procedure"],
        Kind::Date,
        &["performed.ofType(dateTime)", "performedDateTime"],
    ),
    parameter(
        "date",
        &["Immunization"],
        Kind::Date,
        &["occurrence.ofType(dateTime)", "occurrenceDateTime"],
    ),
    parameter("issued", &["DiagnosticReport"], Kind::Date, &["issued"]),
];
