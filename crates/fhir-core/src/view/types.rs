//! The type of a column: by its `ansi/type` tag, its FHIR type, or what its expression alone tells.

use crate::{
    column::ColumnKind,
    fhirpath::{expr::StaticType, types::is_primitive},
};

/// The kind for a FHIR type, given as a name, a URI or an element id (`Observation.referenceRange`).
pub(super) fn of_fhir_type(written: &str) -> ColumnKind {
    let name = written
        .strip_prefix("http://hl7.org/fhir/StructureDefinition/")
        .unwrap_or(written);
    if let Some(system) = name
        .strip_prefix("http://hl7.org/fhirpath/System.")
        .or_else(|| name.strip_prefix("System."))
    {
        return match system {
            "Boolean" => ColumnKind::Boolean,
            "Integer" => ColumnKind::Integer,
            _ => ColumnKind::Text,
        };
    }
    let name = name.strip_prefix("FHIR.").unwrap_or(name);
    match name {
        "boolean" => ColumnKind::Boolean,
        "integer" | "positiveInt" | "unsignedInt" => ColumnKind::Integer,
        "integer64" => ColumnKind::BigInt,
        "decimal" => ColumnKind::Decimal,
        "instant" => ColumnKind::TimestampTz,
        _ if is_primitive(name) => ColumnKind::Text,
        _ => ColumnKind::Json,
    }
}

/// The kind for an `ansi/type` tag; `None` if the type is not known.
pub(super) fn of_ansi_type(written: &str) -> Option<ColumnKind> {
    let upper = written.trim().to_ascii_uppercase();
    let (name, arguments) = match upper.split_once('(') {
        Some((name, rest)) => {
            let (arguments, after) = rest.split_once(')')?;
            // `TIMESTAMP(6) WITH TIME ZONE` has its precision inside.
            (
                format!("{} {}", name.trim(), after.trim()).trim().to_owned(),
                Some(arguments.to_owned()),
            )
        }
        None => (upper, None),
    };
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let numbers: Vec<u16> = match &arguments {
        Some(arguments) => arguments
            .split(',')
            .map(|a| a.trim().parse().ok())
            .collect::<Option<_>>()?,
        None => Vec::new(),
    };
    Some(match (name.as_str(), numbers.as_slice()) {
        ("BOOLEAN" | "BOOL", []) => ColumnKind::Boolean,
        ("INTEGER" | "INT" | "SMALLINT", []) => ColumnKind::Integer,
        ("BIGINT", []) => ColumnKind::BigInt,
        ("NUMERIC" | "DECIMAL" | "DEC", []) => ColumnKind::Decimal,
        ("NUMERIC" | "DECIMAL" | "DEC", [precision]) if (1..=1000).contains(precision) => {
            ColumnKind::DecimalOf {
                precision: *precision,
                scale: 0,
            }
        }
        ("NUMERIC" | "DECIMAL" | "DEC", [precision, scale])
            if (1..=1000).contains(precision) && scale <= precision =>
        {
            ColumnKind::DecimalOf {
                precision: *precision,
                scale: *scale,
            }
        }
        ("DOUBLE PRECISION" | "FLOAT" | "REAL", []) => ColumnKind::Double,
        // FHIR's strings have no length that a view knows; text holds them all.
        (
            "CHARACTER VARYING"
            | "VARCHAR"
            | "TEXT"
            | "CHARACTER"
            | "CHAR"
            | "CHARACTER LARGE OBJECT"
            | "CLOB",
            [] | [_],
        ) => ColumnKind::Text,
        ("DATE", []) => ColumnKind::Date,
        ("TIME" | "TIME WITHOUT TIME ZONE", []) => ColumnKind::Time,
        ("TIMESTAMP" | "TIMESTAMP WITHOUT TIME ZONE", [] | [_]) => ColumnKind::Timestamp,
        ("TIMESTAMP WITH TIME ZONE" | "TIMESTAMPTZ", [] | [_]) => ColumnKind::TimestampTz,
        _ => return None,
    })
}

/// The kind where the definition declares none.
pub(super) fn of_static_type(of: Option<StaticType>) -> ColumnKind {
    match of {
        Some(StaticType::Boolean) => ColumnKind::Boolean,
        Some(StaticType::Integer) => ColumnKind::Integer,
        Some(StaticType::Decimal) => ColumnKind::Decimal,
        Some(StaticType::Text) | None => ColumnKind::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fhir_types() {
        for (written, kind) in [
            ("boolean", ColumnKind::Boolean),
            (
                "http://hl7.org/fhir/StructureDefinition/integer",
                ColumnKind::Integer,
            ),
            ("unsignedInt", ColumnKind::Integer),
            ("integer64", ColumnKind::BigInt),
            ("decimal", ColumnKind::Decimal),
            ("instant", ColumnKind::TimestampTz),
            ("date", ColumnKind::Text),
            ("http://hl7.org/fhirpath/System.Boolean", ColumnKind::Boolean),
            ("Quantity", ColumnKind::Json),
            ("Observation.referenceRange", ColumnKind::Json),
        ] {
            assert_eq!(of_fhir_type(written), kind, "{written}");
        }
    }

    #[test]
    fn ansi_types() {
        for (written, kind) in [
            ("date", Some(ColumnKind::Date)),
            (
                " numeric ( 10 , 2 ) ",
                Some(ColumnKind::DecimalOf {
                    precision: 10,
                    scale: 2,
                }),
            ),
            ("DECIMAL", Some(ColumnKind::Decimal)),
            ("VARCHAR(20)", Some(ColumnKind::Text)),
            ("timestamp  with time zone", Some(ColumnKind::TimestampTz)),
            ("TIMESTAMP(6) WITH TIME ZONE", Some(ColumnKind::TimestampTz)),
            ("DOUBLE PRECISION", Some(ColumnKind::Double)),
            ("GEOMETRY", None),
            ("NUMERIC(2,10)", None),
            ("NUMERIC(x)", None),
            ("BINARY", None),
            ("", None),
        ] {
            assert_eq!(of_ansi_type(written), kind, "{written}");
        }
    }
}
