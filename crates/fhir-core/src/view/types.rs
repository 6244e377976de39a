//! The type of a column: by its `ansi/type` tag, its FHIR type, or what its expression yields (SQL on FHIR, "Type hints").

use crate::{
    column::ColumnKind,
    fhirpath::{
        model::{Class, Namespace, Type, Types},
        types::is_primitive,
    },
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
        return of_system_type(system);
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

/// The kind where the definition declares none: of what the expression yields, if all of that is of one kind. Elements with elements of
/// their own are no column without a declared type, and what is not known is text.
pub(super) fn of_types(types: &Types) -> Option<ColumnKind> {
    let mut kinds = types.known()?.iter().map(|of| match of.namespace() {
        Namespace::Fhir => of_fhir_type(of.name()),
        Namespace::System if of.is_primitive() => of_system_type(of.name()),
        Namespace::System => ColumnKind::Text,
    });
    let first = kinds.next()?;
    let one = kinds.try_fold(first, |one, kind| match (one, kind) {
        (ColumnKind::Integer | ColumnKind::BigInt, ColumnKind::BigInt)
        | (ColumnKind::BigInt, ColumnKind::Integer) => Some(ColumnKind::BigInt),
        _ => (one == kind).then_some(one),
    });
    one.filter(|one| *one != ColumnKind::Json)
}

fn of_system_type(name: &str) -> ColumnKind {
    match name {
        "Boolean" => ColumnKind::Boolean,
        "Integer" => ColumnKind::Integer,
        "Long" => ColumnKind::BigInt,
        "Decimal" => ColumnKind::Decimal,
        _ => ColumnKind::Text,
    }
}

/// Whether the declared type contradicts what the expression yields: none of its types is of the declared one's kin. Nothing is said where one
/// of them is not known.
pub(super) fn contradicts(declared: &str, inferred: &Types) -> bool {
    let Some(declared) = declared_type(declared) else {
        return false;
    };
    inferred
        .known()
        .is_some_and(|types| !types.is_empty() && !types.iter().any(|of| are_kin(declared, *of)))
}

fn declared_type(written: &str) -> Option<Type> {
    let name = written
        .strip_prefix("http://hl7.org/fhir/StructureDefinition/")
        .unwrap_or(written);
    let system = name
        .strip_prefix("http://hl7.org/fhirpath/System.")
        .or_else(|| name.strip_prefix("System."));
    match system {
        Some(system) => Type::system(system),
        None => Type::fhir(name.strip_prefix("FHIR.").unwrap_or(name)),
    }
}

fn are_kin(declared: Type, inferred: Type) -> bool {
    if declared.is(inferred) || inferred.is(declared) {
        return true;
    }
    match (declared.class(), inferred.class()) {
        (Class::Date | Class::DateTime, Class::Date | Class::DateTime)
        | (Class::Integer | Class::Integer64 | Class::Decimal, Class::Integer | Class::Integer64)
        | (Class::Quantity, Class::Quantity) => true,
        (Class::Complex | Class::Resource, _) => false,
        (a, b) => a == b,
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
