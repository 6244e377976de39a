//! Functions by name, a family a file: what they take, what they yield, and how they are evaluated.
//!
//! A new function of a single item is an entry in its family's table (`scalar`); one of a collection is an operator
//! ([`Expr`]), and its family's `compile` makes it.

mod aggregation;
mod automaton;

mod combining;
mod conversion;
mod encoding;
mod existence;
mod fhir;
mod filtering;
mod math;
mod navigation;
mod patterns;
mod precision;
mod scalar;
mod strings;
mod subsetting;

use super::{
    ast::Ast,
    compile::{Context, Typed, base_of, expression},
    error::{PathError, PathErrorKind},
    expr::Expr,
    model::Types,
    parser,
    types::TypeTest,
};

pub(crate) use automaton::{Automaton, Patterns};
pub(crate) use patterns::Pattern;
pub(super) use patterns::{matches, replace_matches};
pub(crate) use scalar::Function;
pub(super) use scalar::bounded;
pub(super) use {
    aggregation::{aggregate, reduce},
    combining::{concatenate, join, split, union},
    existence::{count, distinct, every, is_distinct, quantified, subset},
    fhir::extension,
    filtering::{filter, project, repeat},
    navigation::descendants,
    subsetting::{exclude, intersect, last, pass_at, place, skip, take},
};

/// Functions of a single item.
static TABLES: [&[Function]; 5] = [
    &strings::FUNCTIONS,
    &encoding::FUNCTIONS,
    &math::FUNCTIONS,
    &conversion::FUNCTIONS,
    &precision::FUNCTIONS,
];

/// Functions of collections, as an error lists them beside those of the tables.
const OPERATORS: [&str; 48] = [
    "aggregate",
    "all",
    "allFalse",
    "allTrue",
    "anyFalse",
    "anyTrue",
    "as",
    "avg",
    "children",
    "combine",
    "count",
    "descendants",
    "distinct",
    "empty",
    "exclude",
    "exists",
    "extension",
    "first",
    "getReferenceKey",
    "getResourceKey",
    "hasValue",
    "iif",
    "intersect",
    "is",
    "isDistinct",
    "join",
    "last",
    "matches",
    "matchesFull",
    "max",
    "min",
    "not",
    "ofType",
    "repeat",
    "replaceMatches",
    "select",
    "single",
    "skip",
    "split",
    "subsetOf",
    "sum",
    "supersetOf",
    "tail",
    "take",
    "toChars",
    "trace",
    "union",
    "where",
];

/// Why a row would be wrong later.
const CLOCK: &str = "the stored row would be wrong as soon as the clock moves on; compare with a date where the view is queried";
const SERVER: &str =
    "it needs more than the one resource that a row is made of; query where the views are joined";
const TERMINOLOGY: &str = "it needs a terminology server; join a table of codes where the view is queried";
const PROFILE: &str = "it needs a validator with the profile";

/// What views cannot have.
const REFUSED: [(&str, &str); 12] = [
    ("now", CLOCK),
    ("today", CLOCK),
    ("timeOfDay", CLOCK),
    ("resolve", SERVER),
    ("memberOf", TERMINOLOGY),
    ("subsumes", TERMINOLOGY),
    ("subsumedBy", TERMINOLOGY),
    ("conformsTo", PROFILE),
    ("htmlChecks", PROFILE),
    ("elementDefinition", PROFILE),
    ("slice", PROFILE),
    ("checkModifiers", PROFILE),
];

/// A call that is compiled.
pub(super) struct Compiling<'c> {
    at: usize,
    base: Option<&'c Ast>,
    name: &'c str,
    args: &'c [Ast],
    context: &'c Context<'c>,
}

impl Compiling<'_> {
    /// What the function is called on.
    fn on(&self) -> Result<Typed, PathError> {
        base_of(self.base, self.context)
    }

    /// An argument that is evaluated on what the call is.
    fn argument(&self, at: usize) -> Result<Typed, PathError> {
        self.args
            .get(at)
            .map_or_else(|| Ok(Typed::empty()), |arg| expression(arg, self.context))
    }

    /// An argument that is evaluated on each item of the collection.
    fn each(&self, at: usize, of: &Types) -> Result<Typed, PathError> {
        let context = self.context.on(of.clone());
        self.args
            .get(at)
            .map_or_else(|| Ok(Typed::empty()), |arg| expression(arg, &context))
    }

    /// An argument that names a type.
    fn type_test(&self, at: usize) -> Result<TypeTest, PathError> {
        let arg = self.args.get(at);
        let name = arg.and_then(parser::type_name).ok_or_else(|| PathError {
            at: arg.map_or(self.at, |arg| arg.at),
            kind: PathErrorKind::Token {
                found: "an expression".into(),
                expected: "the name of a type",
            },
        })?;
        TypeTest::of(&name).ok_or_else(|| PathError {
            at: arg.map_or(self.at, |arg| arg.at),
            kind: PathErrorKind::Type(name),
        })
    }

    fn wrong(&self, takes: &'static str) -> PathError {
        PathError {
            at: self.at,
            kind: PathErrorKind::Arguments {
                name: self.name.to_owned(),
                takes,
            },
        }
    }
}

/// Compiles a call. `base` is what it is called on, the focus if absent.
pub(super) fn call(
    at: usize,
    base: Option<&Ast>,
    name: &str,
    args: &[Ast],
    context: &Context<'_>,
) -> Result<Typed, PathError> {
    let call = Compiling {
        at,
        base,
        name,
        args,
        context,
    };
    if let Some(function) = TABLES.into_iter().flatten().find(|f| f.name == name) {
        return of_table(&call, function);
    }
    let families = [
        existence::compile,
        filtering::compile,
        subsetting::compile,
        combining::compile,
        aggregation::compile,
        navigation::compile,
        patterns::compile,
        fhir::compile,
    ];
    if let Some(compiled) = families.into_iter().find_map(|compile| compile(&call)) {
        return compiled;
    }
    let kind = match REFUSED.iter().find(|(refused, _)| *refused == name) {
        Some((_, why)) => PathErrorKind::Refused {
            name: name.to_owned(),
            why,
        },
        None => PathErrorKind::Function {
            name: name.to_owned(),
            supported: supported(),
        },
    };
    Err(PathError { at, kind })
}

fn of_table(call: &Compiling<'_>, function: &'static Function) -> Result<Typed, PathError> {
    let (fewest, most) = function.arguments;
    if !(fewest..=most).contains(&call.args.len()) {
        return Err(call.wrong(function.takes));
    }
    let on = call.on()?;
    let types = function.types(&on.types);
    let args = (0..call.args.len())
        .map(|at| Ok(call.argument(at)?.expr))
        .collect::<Result<_, _>>()?;
    Ok(Typed::new(
        Expr::Function(function, Box::new(on.expr), args),
        types,
    ))
}

/// The names of all functions, in order.
pub(crate) fn supported() -> String {
    let mut names: Vec<_> = TABLES
        .into_iter()
        .flatten()
        .map(|f| f.name)
        .chain(OPERATORS)
        .collect();
    names.sort_unstable_by_key(|name| name.to_ascii_lowercase());
    names.dedup();
    names.join(", ")
}
