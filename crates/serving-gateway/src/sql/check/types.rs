//! The types that a statement may name. A cast to `regclass` and its like reads the catalog, `xml` has a parser of its own, a row type names a table.

use pg_query::NodeEnum;
use pg_query::protobuf::{TypeName, a_const::Val};

use super::{Check, names_of};
use crate::sql::fault::{Checked, Fault};

/// By PostgreSQL's own names: those that SQL has for them are read as these.
#[rustfmt::skip]
const TYPES: &[&str] = &[
    "bool", "bpchar", "bytea", "date", "daterange", "float4", "float8", "int2", "int4", "int4range", "int8",
    "int8range", "interval", "json", "jsonb", "jsonpath", "numeric", "numrange", "text", "time", "timestamp",
    "timestamptz", "timetz", "tsrange", "tstzrange", "uuid", "varchar",
];

/// The largest length or precision: `char(n)` fills up with blanks.
const MAX_MODIFIER: i32 = 65_535;

impl Check<'_> {
    pub(super) fn type_name(&mut self, name: &TypeName) -> Checked {
        let TypeName {
            names,
            type_oid: _,
            setof,
            pct_type,
            typmods,
            typemod: _,
            array_bounds: _,
            location,
        } = name;
        self.note(*location);
        let names = names_of(names);
        let known = match names.as_slice() {
            [name] | ["pg_catalog", name] => TYPES.contains(name),
            _ => false,
        };
        if !known || *setof || *pct_type {
            let rule = format!("this type is not allowed; there are: {}", TYPES.join(", "));
            return Err(self.fault(rule));
        }
        for modifier in typmods {
            let value = match &modifier.node {
                Some(NodeEnum::AConst(constant)) => match &constant.val {
                    Some(Val::Ival(value)) => value.ival,
                    _ => return Err(self.modifier()),
                },
                _ => return Err(self.modifier()),
            };
            // Those of an interval are marks for its fields.
            let is_interval = names.last() == Some(&"interval");
            if !is_interval && value.abs() > MAX_MODIFIER {
                return Err(self.modifier());
            }
        }
        Ok(())
    }

    fn modifier(&self) -> Fault {
        self.fault(format!(
            "a length or precision must be a number of {MAX_MODIFIER} at most"
        ))
    }
}
