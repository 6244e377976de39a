//! In which format rows are wanted, and whether in an envelope: `_format` and the header `Accept`.

use crate::Outcome;

/// A format of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180.
    Csv,
    /// One array of objects.
    Json,
    /// One object a line.
    Ndjson,
    /// A `Parameters` resource with a `row` for each row.
    Fhir,
}

/// How the rows of a format are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Representation {
    /// As they are.
    Raw,
    /// As the base64 of a `Binary` resource.
    Binary,
}

/// All formats, the default first.
pub const FORMATS: [Format; 4] = [Format::Ndjson, Format::Json, Format::Csv, Format::Fhir];

impl Format {
    /// As `_format` names it.
    pub fn code(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Fhir => "fhir",
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv",
            Self::Json => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::Fhir => "application/fhir+json",
        }
    }

    /// The format of a code, or of a media type.
    pub fn parse(text: &str) -> Result<Self, Outcome> {
        let found = FORMATS
            .into_iter()
            .find(|format| text == format.code() || text == format.media_type());
        found.ok_or_else(|| {
            let what = "_format: must be ndjson, json, csv or fhir; parquet and others are not served";
            Outcome::unsupported("_format", what)
        })
    }

    /// Chooses by `_format`, which beats `Accept`, and by `Accept`; 406 where only what is not served would be taken.
    pub fn negotiate(asked: Option<Self>, accept: &str) -> Result<(Self, Representation), Outcome> {
        let mut refused = false;
        for range in by_preference(accept) {
            let meant = match range {
                "application/fhir+json" if asked == Some(Self::Fhir) => {
                    Some((Self::Fhir, Representation::Raw))
                }
                "application/fhir+json" => Some((asked.unwrap_or(Self::Ndjson), Representation::Binary)),
                "application/fhir+xml" => {
                    refused = true;
                    None
                }
                "application/vnd.apache.parquet" => {
                    refused |= asked.is_none();
                    None
                }
                "*/*" | "application/*" | "application/octet-stream" => {
                    Some((asked.unwrap_or(Self::Ndjson), Representation::Raw))
                }
                other => of_range(other)
                    .filter(|format| asked.is_none_or(|asked| asked == *format))
                    .map(|format| (format, Representation::Raw)),
            };
            if let Some(meant) = meant {
                return Ok(meant);
            }
        }
        if refused {
            let what = "Accept: rows are served as application/x-ndjson, application/json, text/csv and application/fhir+json; not as XML or Parquet";
            return Err(Outcome::not_acceptable(what));
        }
        Ok((asked.unwrap_or(Self::Ndjson), Representation::Raw))
    }
}

fn of_range(range: &str) -> Option<Format> {
    match range {
        "text/csv" | "text/*" => Some(Format::Csv),
        "application/json" => Some(Format::Json),
        "application/x-ndjson" | "application/ndjson" => Some(Format::Ndjson),
        _ => None,
    }
}

/// The media ranges of an `Accept`, most wanted first; those that are not wanted at all are left out.
pub fn by_preference(accept: &str) -> impl Iterator<Item = &str> {
    let mut ranges: Vec<(u16, &str)> = accept
        .split(',')
        .filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().filter(|name| !name.is_empty())?;
            let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
            Some((weight.map_or(1000, thousandths), name))
        })
        .filter(|(weight, _)| *weight > 0)
        .collect();
    ranges.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    ranges.into_iter().map(|(_, name)| name)
}

/// A weight of RFC 9110, from 0 to 1 with up to three digits; one that is not of that form counts as 1.
fn thousandths(weight: &str) -> u16 {
    match weight.split_once('.') {
        None if weight == "0" => 0,
        Some(("0", digits)) if digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{digits:0<3}").parse().unwrap_or(1000)
        }
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(asked: Option<Format>, accept: &str) -> Option<(Format, Representation)> {
        Format::negotiate(asked, accept).ok()
    }

    #[test]
    fn without_a_format_the_header_chooses_and_ndjson_is_the_default() {
        use Representation::{Binary, Raw};
        for (accept, expected) in [
            ("", Some((Format::Ndjson, Raw))),
            ("*/*", Some((Format::Ndjson, Raw))),
            ("text/csv", Some((Format::Csv, Raw))),
            (
                "text/html, application/json;q=0.9, */*;q=0.1",
                Some((Format::Json, Raw)),
            ),
            ("application/json;q=0.5, text/csv;q=0.8", Some((Format::Csv, Raw))),
            (
                "text/csv;q=0, application/json;q=0.001",
                Some((Format::Json, Raw)),
            ),
            ("image/png", Some((Format::Ndjson, Raw))),
            ("application/fhir+json", Some((Format::Ndjson, Binary))),
            ("application/fhir+xml", None),
            ("application/fhir+xml, text/csv;q=0.1", Some((Format::Csv, Raw))),
            ("application/vnd.apache.parquet", None),
        ] {
            assert_eq!(meant(None, accept), expected, "{accept}");
        }
    }

    #[test]
    fn a_format_beats_the_header_which_then_chooses_the_envelope() {
        use Representation::{Binary, Raw};
        for (asked, accept, expected) in [
            (Format::Csv, "application/json", Some((Format::Csv, Raw))),
            (
                Format::Csv,
                "application/vnd.apache.parquet",
                Some((Format::Csv, Raw)),
            ),
            (Format::Csv, "application/fhir+json", Some((Format::Csv, Binary))),
            (
                Format::Csv,
                "text/csv, application/fhir+json",
                Some((Format::Csv, Raw)),
            ),
            (Format::Csv, "application/fhir+xml", None),
            (Format::Fhir, "application/fhir+json", Some((Format::Fhir, Raw))),
            (Format::Fhir, "application/fhir+xml", None),
        ] {
            assert_eq!(meant(Some(asked), accept), expected, "{asked:?} {accept}");
        }
    }
}
