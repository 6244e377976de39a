//! FHIR R4's search parameters as far as a scan can evaluate them: name, kind of comparison, and the element that each searches in each type.
//!
//! As R4 (4.0.1) defines them in its resources of type `SearchParameter`; `resolve() is Patient` is the type of the kind here,
//! `(x as CodeableConcept)` the name of the property.
//! Left out is `code` of types that hold definitions and messages, where it is no coded element.

/// How values of a parameter are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `Patient.gender`'s codes, with their implied system.
    Gender,
    /// A `CodeableConcept` or a `Coding`.
    Concept,
    /// A reference to a resource of this type.
    ReferenceTo(&'static str),
    /// A reference to a resource of any type.
    Reference,
}

/// The element that a parameter searches in some types.
pub(super) struct Element {
    pub(super) parameter: &'static str,
    pub(super) kind: Kind,
    /// Names of properties, with dots between them.
    pub(super) path: &'static str,
    types: &'static [&'static str],
}

const fn element(
    parameter: &'static str,
    kind: Kind,
    path: &'static str,
    types: &'static [&'static str],
) -> Element {
    Element {
        parameter,
        kind,
        path,
        types,
    }
}

const PATIENT: Kind = Kind::ReferenceTo("Patient");

#[rustfmt::skip]
const ELEMENTS: &[Element] = &[
    element("gender", Kind::Gender, "gender", &["Patient", "Person", "Practitioner", "RelatedPerson"]),
    element("code", Kind::Concept, "code", &[
        "AllergyIntolerance", "Basic", "ChargeItem", "Condition", "DetectedIssue", "DiagnosticReport", "Group", "List", "Medication",
        "MedicationKnowledge", "Observation", "Procedure", "RequestGroup", "ServiceRequest", "Substance", "Task",
    ]),
    element("code", Kind::Concept, "medicationCodeableConcept", &[
        "MedicationAdministration", "MedicationDispense", "MedicationRequest", "MedicationStatement",
    ]),
    element("code", Kind::Concept, "reaction.substance", &["AllergyIntolerance"]),
    element("code", Kind::Concept, "codeCodeableConcept", &["DeviceRequest"]),
    element("code", Kind::Concept, "condition.code", &["FamilyMemberHistory"]),
    element("code", Kind::Concept, "item.code", &["Questionnaire"]),
    element("code", Kind::Concept, "ingredient.substanceCodeableConcept", &["Substance"]),
    element("code", Kind::Concept, "code.code", &["SubstanceSpecification"]),
    element("vaccine-code", Kind::Concept, "vaccineCode", &["Immunization"]),
    element("patient", PATIENT, "subject", &[
        "Account", "Basic", "CarePlan", "CareTeam", "ChargeItem", "ClinicalImpression", "Communication", "CommunicationRequest", "Composition",
        "Condition", "Contract", "DeviceRequest", "DeviceUseStatement", "DiagnosticReport", "DocumentManifest", "DocumentReference", "Encounter",
        "Flag", "Goal", "GuidanceResponse", "ImagingStudy", "Invoice", "List", "MeasureReport", "Media", "MedicationAdministration",
        "MedicationDispense", "MedicationRequest", "MedicationStatement", "Observation", "Procedure", "QuestionnaireResponse", "RequestGroup",
        "RiskAssessment", "ServiceRequest", "Specimen",
    ]),
    element("patient", PATIENT, "patient", &[
        "AllergyIntolerance", "BodyStructure", "Claim", "ClaimResponse", "Consent", "CoverageEligibilityRequest", "CoverageEligibilityResponse",
        "DetectedIssue", "Device", "EpisodeOfCare", "ExplanationOfBenefit", "FamilyMemberHistory", "Immunization", "ImmunizationEvaluation",
        "ImmunizationRecommendation", "MolecularSequence", "NutritionOrder", "RelatedPerson", "SupplyDelivery", "VisionPrescription",
    ]),
    element("patient", PATIENT, "participant.actor", &["Appointment"]),
    element("patient", PATIENT, "actor", &["AppointmentResponse"]),
    element("patient", PATIENT, "agent.who", &["AuditEvent"]),
    element("patient", PATIENT, "entity.what", &["AuditEvent"]),
    element("patient", PATIENT, "beneficiary", &["Coverage"]),
    element("patient", PATIENT, "candidate", &["EnrollmentRequest"]),
    element("patient", PATIENT, "link.target", &["Person"]),
    element("patient", PATIENT, "target", &["Provenance"]),
    element("patient", PATIENT, "individual", &["ResearchSubject"]),
    element("patient", PATIENT, "for", &["Task"]),
    element("beneficiary", PATIENT, "beneficiary", &["Coverage"]),
    element("subject", Kind::Reference, "subject", &[
        "Account", "AdverseEvent", "Basic", "CarePlan", "CareTeam", "ChargeItem", "ClinicalImpression", "Communication", "CommunicationRequest",
        "Composition", "Condition", "Contract", "DeviceRequest", "DeviceUseStatement", "DiagnosticReport", "DocumentManifest", "DocumentReference",
        "Encounter", "Flag", "Goal", "GuidanceResponse", "ImagingStudy", "Invoice", "List", "MeasureReport", "Media", "MedicationAdministration",
        "MedicationDispense", "MedicationRequest", "MedicationStatement", "MedicinalProductAuthorization", "MedicinalProductContraindication",
        "MedicinalProductIndication", "MedicinalProductInteraction", "MedicinalProductPackaged", "MedicinalProductUndesirableEffect", "Observation",
        "Procedure", "QuestionnaireResponse", "RequestGroup", "RiskAssessment", "ServiceRequest", "Specimen",
    ]),
    element("subject", Kind::Reference, "candidate", &["EnrollmentRequest"]),
    element("subject", Kind::Reference, "deliverTo", &["SupplyRequest"]),
    element("subject", Kind::Reference, "for", &["Task"]),
];

/// The elements that parameters search in a type.
pub(super) fn of_type(resource_type: &str) -> impl Iterator<Item = &'static Element> {
    ELEMENTS
        .iter()
        .filter(move |element| element.types.contains(&resource_type))
}

/// The paths of the elements that refer to a resource's patients: those of `patient`, of `subject` where the type has no such parameter.
pub(super) fn patients_of(resource_type: &str) -> Vec<&'static str> {
    let of = |parameter: &'static str| {
        let elements = of_type(resource_type).filter(move |element| element.parameter == parameter);
        elements.map(|element| element.path).collect::<Vec<_>>()
    };
    let patients = of("patient");
    if patients.is_empty() {
        of("subject")
    } else {
        patients
    }
}

#[cfg(test)]
mod tests {
    use fhir_core::resource::is_r4_type;

    use super::*;

    #[test]
    fn every_type_is_one_of_r4_and_stands_once() {
        for Element {
            parameter,
            path,
            types,
            ..
        } in ELEMENTS
        {
            assert!(types.is_sorted(), "{parameter} {path}");
            for name in *types {
                assert!(is_r4_type(name), "{name}");
                let same = |e: &&Element| e.parameter == *parameter && e.path == *path;
                assert_eq!(of_type(name).filter(same).count(), 1, "{parameter} of {name}");
            }
        }
    }

    #[test]
    fn patients_are_where_r4_says() {
        for (name, paths) in [
            ("Patient", &[][..]),
            ("Condition", &["subject"]),
            ("Immunization", &["patient"]),
            ("Coverage", &["beneficiary"]),
            ("AuditEvent", &["agent.who", "entity.what"]),
            ("AdverseEvent", &["subject"]),
            ("SupplyRequest", &["deliverTo"]),
            ("Medication", &[]),
        ] {
            assert_eq!(patients_of(name), paths, "{name}");
        }
    }
}
