//! The rules that need no expression: names, reserved words, iteration directives.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    definition::{ColumnDef, Constant, Definition, Select},
    error::{Errors, Rule},
};
use crate::{fhirpath::compile::RESERVED_CONSTANTS, resource::is_type};

/// Longest identifier of PostgreSQL, in bytes; it cuts longer ones silently.
const MAX_NAME: usize = 63;

/// Views of the schema `sqlonfhir` that are not of a definition.
const RESERVED_VIEWS: [&str; 2] = ["freshness", "errors"];

/// System columns of every PostgreSQL table.
const RESERVED_COLUMNS: [&str; 6] = ["tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"];

/// Checks the definition, adding what it finds.
pub(super) fn check(definition: &Definition, errors: &mut Errors) {
    let mut validator = Validator { errors };
    if let Some(name) = &definition.name {
        validator.name("name".into(), name);
        if RESERVED_VIEWS.iter().any(|r| r.eq_ignore_ascii_case(name)) {
            validator.error("name".into(), Rule::Reserved(name.clone()));
        }
    }
    let resource = &definition.resource;
    if !resource.is_empty() && !is_type(resource) {
        validator.error(
            "resource".into(),
            Rule::Shape("the name of a resource type, like Patient"),
        );
    }
    validator.constants(&definition.constants);
    for select in &definition.selects {
        validator.select(select);
    }
}

/// The invariant sql-name: `^[A-Za-z][A-Za-z0-9_]*$`.
fn is_sql_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

struct Validator<'e> {
    errors: &'e mut Errors,
}

impl Validator<'_> {
    fn error(&mut self, at: String, rule: Rule) {
        self.errors.push(at, rule);
    }

    fn name(&mut self, at: String, name: &str) {
        if !is_sql_name(name) {
            self.error(at, Rule::Name);
        } else if name.len() > MAX_NAME {
            self.error(at, Rule::NameTooLong);
        }
    }

    fn constants(&mut self, constants: &[Constant]) {
        let mut seen: HashMap<&str, &Constant> = HashMap::new();
        for constant in constants {
            let at = format!("{}.name", constant.at);
            if !is_sql_name(&constant.name) {
                self.error(at.clone(), Rule::Name);
            }
            if RESERVED_CONSTANTS.contains(&constant.name.as_str()) {
                self.error(at.clone(), Rule::Reserved(constant.name.clone()));
            }
            match seen.entry(&constant.name) {
                Entry::Occupied(first) => self.error(
                    at,
                    Rule::Duplicate {
                        name: constant.name.clone(),
                        first: first.get().at.clone(),
                    },
                ),
                Entry::Vacant(free) => drop(free.insert(constant)),
            }
        }
    }

    fn select(&mut self, select: &Select) {
        if select.iterations.len() > 1 {
            let names: Vec<_> = select.iterations.iter().map(|i| i.kind.name()).collect();
            self.error(select.at.clone(), Rule::Iterations(names.join(" and ")));
        }
        for column in &select.columns {
            self.column(column);
        }
        for inner in select.selects.iter().chain(&select.union_all) {
            self.select(inner);
        }
    }

    fn column(&mut self, column: &ColumnDef) {
        let at = format!("{}.name", column.at);
        self.name(at.clone(), &column.name);
        if RESERVED_COLUMNS.contains(&column.name.as_str()) {
            self.error(at, Rule::Reserved(column.name.clone()));
        }
    }
}
