//! Syntax tree to operators: functions, types and constants resolved, everything unknown refused by name.

use std::collections::HashMap;

use super::{
    ast::{Ast, AstKind, Literal},
    error::{PathError, PathErrorKind},
    expr::{Arithmetic, Comparison, Expr, Member},
    functions, parser,
    types::{self, TypeTest},
};

/// What an expression's names mean: the view's constants.
#[derive(Debug, Default)]
pub struct Scope {
    constants: HashMap<String, Literal>,
}

/// Names after `%` that the languages define; a view's constant cannot take them.
pub const RESERVED_CONSTANTS: [&str; 7] = [
    "rowIndex",
    "resource",
    "rootResource",
    "context",
    "ucum",
    "sct",
    "loinc",
];

impl Scope {
    /// Makes a constant known.
    pub fn define(&mut self, name: String, value: Literal) {
        self.constants.insert(name, value);
    }
}

/// Compiles one expression.
pub fn compile(text: &str, scope: &Scope) -> Result<Expr, PathError> {
    expression(&parser::parse(text)?, scope)
}

pub(super) fn expression(ast: &Ast, scope: &Scope) -> Result<Expr, PathError> {
    let fail = |kind| Err(PathError { at: ast.at, kind });
    Ok(match &ast.kind {
        AstKind::Literal(literal) => Expr::Literal(literal.clone()),
        AstKind::Empty => Expr::Empty,
        AstKind::Special(word) => match word.as_str() {
            "this" => Expr::This,
            "index" => Expr::Index,
            _ => return fail(PathErrorKind::Unsupported(format!("${word} is"))),
        },
        AstKind::Constant(name) => match constant(name, scope) {
            Some(expr) => expr,
            None => return fail(PathErrorKind::Constant(name.clone())),
        },
        AstKind::Member { base, name } => {
            if base.is_none() && name.starts_with(|c: char| c.is_ascii_uppercase()) {
                return Ok(Expr::Root(name.clone()));
            }
            Expr::Member(base_of(base.as_deref(), scope)?, member(name))
        }
        AstKind::Call { base, name, args } => functions::call(ast.at, base.as_deref(), name, args, scope)?,
        AstKind::Indexer { base, index } => Expr::Item(boxed(base, scope)?, boxed(index, scope)?),
        AstKind::Negate(operand) => match boxed(operand, scope)? {
            inner if matches!(*inner, Expr::Literal(Literal::Integer(_))) => match *inner {
                Expr::Literal(Literal::Integer(value)) => Expr::Literal(Literal::Integer(-value)),
                other => other,
            },
            inner => Expr::Negate(inner),
        },
        AstKind::Binary { op, operands } => return binary(ast.at, op, operands, scope),
        AstKind::Type { op, operand, name } => {
            let Some(test) = TypeTest::of(name) else {
                return fail(PathErrorKind::Type(name.clone()));
            };
            let operand = boxed(operand, scope)?;
            if *op == "is" {
                Expr::Is(operand, test)
            } else {
                Expr::As(operand, test)
            }
        }
    })
}

pub(super) fn boxed(ast: &Ast, scope: &Scope) -> Result<Box<Expr>, PathError> {
    expression(ast, scope).map(Box::new)
}

/// What a path or call hangs on: the focus, if it is not written.
pub(super) fn base_of(base: Option<&Ast>, scope: &Scope) -> Result<Box<Expr>, PathError> {
    base.map_or_else(|| Ok(Box::new(Expr::This)), |base| boxed(base, scope))
}

fn member(name: &str) -> Member {
    Member {
        name: name.to_owned(),
        choice: types::is_choice(name),
    }
}

fn constant(name: &str, scope: &Scope) -> Option<Expr> {
    let system = |url: &str| Expr::Literal(Literal::Text(url.to_owned()));
    Some(match name {
        "rowIndex" => Expr::RowIndex,
        "resource" | "rootResource" => Expr::Resource,
        "context" => Expr::Context,
        "ucum" => system("http://unitsofmeasure.org"),
        "sct" => system("http://snomed.info/sct"),
        "loinc" => system("http://loinc.org"),
        _ => Expr::Literal(scope.constants.get(name)?.clone()),
    })
}

fn binary(at: usize, op: &'static str, operands: &[Ast], scope: &Scope) -> Result<Expr, PathError> {
    let mut compiled = operands
        .iter()
        .map(|o| expression(o, scope))
        .collect::<Result<Vec<_>, _>>()?;
    match op {
        "and" => return Ok(Expr::And(compiled)),
        "or" => return Ok(Expr::Or(compiled)),
        "|" => return Ok(Expr::Union(compiled)),
        _ => {}
    }
    let (Some(right), Some(left)) = (compiled.pop().map(Box::new), compiled.pop().map(Box::new)) else {
        return Ok(Expr::Empty);
    };
    Ok(match op {
        "=" => Expr::Equal(left, right, true),
        "!=" => Expr::Equal(left, right, false),
        "<" => Expr::Compare(Comparison::Less, left, right),
        "<=" => Expr::Compare(Comparison::LessOrEqual, left, right),
        ">" => Expr::Compare(Comparison::Greater, left, right),
        ">=" => Expr::Compare(Comparison::GreaterOrEqual, left, right),
        "xor" => Expr::Xor(left, right),
        "implies" => Expr::Implies(left, right),
        "+" => Expr::Arithmetic(Arithmetic::Add, left, right),
        "-" => Expr::Arithmetic(Arithmetic::Subtract, left, right),
        "*" => Expr::Arithmetic(Arithmetic::Multiply, left, right),
        "/" => Expr::Arithmetic(Arithmetic::Divide, left, right),
        "in" => Expr::In(left, right),
        "contains" => Expr::In(right, left),
        _ => {
            return Err(PathError {
                at,
                kind: PathErrorKind::Unsupported(format!("operator {op} is")),
            });
        }
    })
}
