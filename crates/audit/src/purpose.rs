//! What a caller says it asks for: a code of HL7's value set PurposeOfUse (terminology.hl7.org, code system v3-ActReason), in `x-purpose-of-use`.

use axum::http::{HeaderMap, HeaderName};

/// The header, or key of gRPC's metadata.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-purpose-of-use");
/// The code system of the codes.
pub(crate) const SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/v3-ActReason";

/// All that are taken.
const CODES: &[&str] = &[
    "BIORCH",
    "BTG",
    "CAREMGT",
    "CLINTRCH",
    "CLINTRCHNPC",
    "CLINTRCHPC",
    "CLINTRL",
    "CLMATTCH",
    "COC",
    "COVAUTH",
    "COVERAGE",
    "DISASTER",
    "DONAT",
    "DSRCH",
    "ELIGDTRM",
    "ELIGVER",
    "ENROLLM",
    "ERTREAT",
    "ETREAT",
    "FAMRQT",
    "FRAUD",
    "GOV",
    "HACCRED",
    "HCOMPL",
    "HDECD",
    "HDIRECT",
    "HDM",
    "HLEGAL",
    "HMARKT",
    "HOPERAT",
    "HOUTCOMS",
    "HPAYMT",
    "HPRGRP",
    "HQUALIMP",
    "HRESCH",
    "HSYSADMIN",
    "HTEST",
    "LABELING",
    "MEMADMIN",
    "METAMGT",
    "MILCDM",
    "MILDCRG",
    "PATADMIN",
    "PATRQT",
    "PATSFTY",
    "PERFMSR",
    "POARCH",
    "POPHLTH",
    "PRECLINTRCH",
    "PUBHLTH",
    "PWATRNY",
    "RECORDMGT",
    "REMITADV",
    "SUPNWK",
    "SYSDEV",
    "THREAT",
    "TRAIN",
    "TRANSRCH",
    "TREAT",
];

/// The header is there, and is none of the codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be one code of HL7's value set PurposeOfUse, such as HRESCH, TREAT or HOPERAT")]
pub(crate) struct NoPurpose;

/// The purpose that a request names, if it names one.
pub(crate) fn of(headers: &HeaderMap) -> Result<Option<&'static str>, NoPurpose> {
    let mut given = headers.get_all(HEADER).iter();
    let Some(first) = given.next() else {
        return Ok(None);
    };
    let code = CODES.iter().find(|code| first.as_bytes() == code.as_bytes());
    match (code, given.next()) {
        (Some(code), None) => Ok(Some(code)),
        _ => Err(NoPurpose),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purpose_is_one_of_the_codes_or_none() {
        let with = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, value.parse().expect("ascii"));
            }
            of(&headers)
        };
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(with(&["HRESCH"]), Ok(Some("HRESCH")));
        for bad in [&["hresch"][..], &["Doe"], &[""], &["HRESCH", "TREAT"]] {
            assert_eq!(with(bad), Err(NoPurpose));
        }
    }
}
