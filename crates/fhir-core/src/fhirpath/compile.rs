//! Syntax tree to operators: functions, types and constants resolved, everything unknown refused by name.

use std::collections::HashMap;

use super::{
    ast::{Ast, AstKind, Literal},
    error::{PathError, PathErrorKind},
    expr::{Arithmetic, Comparison, Expr, Key, Member},
    functions,
    model::{self, Class, Type, Types, system},
    parser,
    temporal::Form,
    types::{TypeTest, capitalised},
};

/// What an expression's names mean: the view's constants, and the resource.
#[derive(Debug, Default)]
pub struct Scope {
    constants: HashMap<String, Literal>,
    resource: Types,
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

/// An expression and the types that its items can have.
#[derive(Debug, Clone)]
pub struct Typed {
    /// What is evaluated.
    pub expr: Expr,
    /// The types of its items.
    pub types: Types,
}

/// What an expression stands in, while it is compiled.
#[derive(Debug, Clone)]
pub(super) struct Context<'s> {
    scope: &'s Scope,
    /// Of `$this`.
    this: Types,
    /// Of `%context`.
    whole: Types,
}

impl Scope {
    /// A scope without constants, for resources of a type. A type that FHIR R4 does not have is as if nothing were known.
    pub fn of(resource_type: &str) -> Self {
        Self {
            constants: HashMap::new(),
            resource: Type::fhir(resource_type).map_or(Types::UNKNOWN, Types::one),
        }
    }

    /// Makes a constant known.
    pub fn define(&mut self, name: String, value: Literal) {
        self.constants.insert(name, value);
    }

    /// The types of the resource.
    pub fn resource(&self) -> &Types {
        &self.resource
    }
}

impl Typed {
    pub(super) fn new(expr: Expr, types: Types) -> Self {
        Self { expr, types }
    }

    /// `{}`
    pub(super) fn empty() -> Self {
        Self::new(Expr::Empty, Types::none())
    }
}

impl Context<'_> {
    /// The same, within a function that evaluates its argument on each item.
    pub(super) fn on(&self, this: Types) -> Self {
        Self { this, ..self.clone() }
    }
}

/// Compiles one expression that is evaluated on the resource.
pub fn compile(text: &str, scope: &Scope) -> Result<Expr, PathError> {
    compile_on(text, scope, &scope.resource).map(|typed| typed.expr)
}

/// Compiles one expression that is evaluated on items of these types.
pub fn compile_on(text: &str, scope: &Scope, focus: &Types) -> Result<Typed, PathError> {
    let context = Context {
        scope,
        this: focus.clone(),
        whole: focus.clone(),
    };
    expression(&parser::parse(text)?, &context)
}

pub(super) fn expression(ast: &Ast, context: &Context<'_>) -> Result<Typed, PathError> {
    let fail = |kind| Err(PathError { at: ast.at, kind });
    Ok(match &ast.kind {
        AstKind::Literal(literal) => stated(literal),
        AstKind::Empty => Typed::empty(),
        AstKind::Special(word) => match word.as_str() {
            "this" => Typed::new(Expr::This, context.this.clone()),
            "index" => Typed::new(Expr::Index, Types::one(system::INTEGER)),
            "total" => Typed::new(Expr::Total, Types::UNKNOWN),
            _ => return fail(PathErrorKind::Unsupported(format!("${word} is"))),
        },
        AstKind::Constant(name) => match constant(name, context) {
            Some(typed) => typed,
            None => return fail(PathErrorKind::Constant(name.clone())),
        },
        AstKind::Member { base, name } => {
            if base.is_none() && name.starts_with(|c: char| c.is_ascii_uppercase()) {
                let types = Type::fhir(name).map_or(Types::UNKNOWN, |of| context.this.narrowed(of));
                return Ok(Typed::new(Expr::Root(name.clone()), types));
            }
            let base = base_of(base.as_deref(), context)?;
            let (member, types) = member(&base.types, name);
            Typed::new(Expr::Member(Box::new(base.expr), member), types)
        }
        AstKind::Call { base, name, args } => {
            return functions::call(ast.at, base.as_deref(), name, args, context);
        }
        AstKind::Indexer { base, index } => {
            let base = expression(base, context)?;
            let index = Box::new(expression(index, context)?.expr);
            Typed::new(Expr::Item(Box::new(base.expr), index), base.types)
        }
        AstKind::Negate(operand) => match expression(operand, context)? {
            Typed {
                expr: Expr::Literal(Literal::Integer(value)),
                types,
            } => Typed::new(Expr::Literal(Literal::Integer(-value)), types),
            inner => Typed::new(Expr::Negate(Box::new(inner.expr)), inner.types.computed()),
        },
        AstKind::Binary { op, operands } => return binary(ast.at, op, operands, context),
        AstKind::Type { op, operand, name } => {
            let Some(test) = TypeTest::of(name) else {
                return fail(PathErrorKind::Type(name.clone()));
            };
            let operand = expression(operand, context)?;
            if *op == "is" {
                Typed::new(
                    Expr::Is(Box::new(operand.expr), test),
                    Types::one(system::BOOLEAN),
                )
            } else {
                as_type(operand, test)
            }
        }
    })
}

/// What a path or call hangs on: the focus, if it is not written.
pub(super) fn base_of(base: Option<&Ast>, context: &Context<'_>) -> Result<Typed, PathError> {
    base.map_or_else(
        || Ok(Typed::new(Expr::This, context.this.clone())),
        |base| expression(base, context),
    )
}

/// `as T`: a single choice is looked up by its full name, like with `ofType`.
pub(super) fn as_type(operand: Typed, test: TypeTest) -> Typed {
    let types = test.of.map_or(Types::UNKNOWN, |of| operand.types.narrowed(of));
    Typed::new(Expr::As(Box::new(operand.expr), test), types)
}

/// `value.ofType(Quantity)`: looked up as `valueQuantity` at once.
pub(super) fn of_type(on: Typed, test: TypeTest) -> Typed {
    let types = test.of.map_or(Types::UNKNOWN, |of| on.types.narrowed(of));
    let expr = match on.expr {
        Expr::Member(base, member) if member.choice || member.keys.is_empty() => {
            let mut keys: Vec<Key> = test
                .suffixes
                .iter()
                .map(|(suffix, of)| Key {
                    name: format!("{}{suffix}", member.name),
                    of: *of,
                })
                .collect();
            // Where the choice's types are known, those that it has; where it has none of them, the JSON may be another version's.
            if keys.iter().any(|key| member.keys.contains(key)) {
                keys.retain(|key| member.keys.contains(key));
            }
            Expr::Choice(base, member, keys, test)
        }
        other => Expr::OfType(Box::new(other), test),
    };
    // Another version's types are none of the table's.
    let types = match types.known() {
        Some([]) => test_types(&expr),
        _ => types,
    };
    Typed::new(expr, types)
}

/// The type that is asked for, where the table says that there can be none.
fn test_types(expr: &Expr) -> Types {
    match expr {
        Expr::Choice(_, _, _, test) | Expr::OfType(_, test) => test.of.map_or(Types::UNKNOWN, Types::one),
        _ => Types::UNKNOWN,
    }
}

/// An element, looked up in the types that it is taken from.
fn member(base: &Types, name: &str) -> (Member, Types) {
    let untyped = || {
        let member = Member {
            name: name.to_owned(),
            choice: model::is_choice(name),
            keys: Vec::new(),
        };
        (member, Types::UNKNOWN)
    };
    let Some(types) = base.known() else {
        return untyped();
    };
    let elements: Vec<_> = types.iter().filter_map(|of| of.element(name)).collect();
    // An abstract type's element may be of a type that has more.
    let open = elements.len() < types.len() && types.iter().any(|of| of.is_abstract());
    if elements.is_empty() || open {
        return untyped();
    }
    let choice = elements.iter().any(|element| element.choice);
    let mut keys: Vec<Key> = Vec::new();
    for element in &elements {
        for of in &element.types {
            let suffix = if element.choice {
                capitalised(of.name())
            } else {
                String::new()
            };
            let key = Key {
                name: format!("{name}{suffix}"),
                of: *of,
            };
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    let types = Types::of(keys.iter().map(|key| key.of));
    // One property of two types: which, the element tells.
    let several = keys
        .iter()
        .enumerate()
        .any(|(i, key)| keys[..i].iter().any(|k| k.name == key.name));
    if several || (!choice && keys.len() != 1) {
        keys.clear();
    }
    let member = Member {
        name: name.to_owned(),
        choice: choice || (keys.is_empty() && model::is_choice(name)),
        keys,
    };
    (member, types)
}

/// A literal, or a constant's value.
fn stated(literal: &Literal) -> Typed {
    let of = match literal {
        Literal::Boolean(_) => system::BOOLEAN,
        Literal::Integer(_) => system::INTEGER,
        Literal::Decimal(_) => system::DECIMAL,
        Literal::Text(_) => system::STRING,
        Literal::Temporal(value, _) => match value.form() {
            Form::Date => system::DATE,
            Form::DateTime => system::DATE_TIME,
            Form::Time => system::TIME,
        },
        Literal::Quantity(_) => system::QUANTITY,
    };
    Typed::new(Expr::Literal(literal.clone()), Types::one(of))
}

fn constant(name: &str, context: &Context<'_>) -> Option<Typed> {
    let url = |url: &str| stated(&Literal::Text(url.to_owned()));
    Some(match name {
        "rowIndex" => Typed::new(Expr::RowIndex, Types::one(system::INTEGER)),
        "resource" | "rootResource" => Typed::new(Expr::Resource, context.scope.resource.clone()),
        "context" => Typed::new(Expr::Context, context.whole.clone()),
        "ucum" => url("http://unitsofmeasure.org"),
        "sct" => url("http://snomed.info/sct"),
        "loinc" => url("http://loinc.org"),
        _ => stated(context.scope.constants.get(name)?),
    })
}

/// The types of a sum, product, …: `None` for those of the operands that are not known.
fn arithmetic(op: Arithmetic, left: &Types, right: &Types) -> Types {
    let (left, right) = (left.computed(), right.computed());
    let (Some(a), Some(b)) = (left.single(), right.single()) else {
        return Types::UNKNOWN;
    };
    Types::one(match (a.class(), b.class()) {
        (Class::Integer, Class::Integer) if op == Arithmetic::Divide => system::DECIMAL,
        _ if op == Arithmetic::WholeDivide => system::INTEGER,
        (Class::Integer, Class::Integer) => system::INTEGER,
        (Class::Integer | Class::Decimal, Class::Integer | Class::Decimal) => system::DECIMAL,
        (Class::Quantity, _) | (_, Class::Quantity)
            if matches!(a.class(), Class::Integer | Class::Decimal) =>
        {
            system::QUANTITY
        }
        _ => a,
    })
}

fn binary(at: usize, op: &'static str, operands: &[Ast], context: &Context<'_>) -> Result<Typed, PathError> {
    let mut compiled = operands
        .iter()
        .map(|o| expression(o, context))
        .collect::<Result<Vec<_>, _>>()?;
    let boolean = |expr| Ok(Typed::new(expr, Types::one(system::BOOLEAN)));
    if matches!(op, "and" | "or" | "|") {
        let types = compiled
            .iter()
            .fold(Types::none(), |types, operand| types.or(&operand.types));
        let operands = compiled.into_iter().map(|operand| operand.expr).collect();
        return match op {
            "and" => boolean(Expr::And(operands)),
            "or" => boolean(Expr::Or(operands)),
            _ => Ok(Typed::new(Expr::Union(operands), types)),
        };
    }
    let (Some(right), Some(left)) = (compiled.pop(), compiled.pop()) else {
        return Ok(Typed::empty());
    };
    let (a, b) = (Box::new(left.expr), Box::new(right.expr));
    let calculate = |op, a, b| {
        let types = arithmetic(op, &left.types, &right.types);
        Ok(Typed::new(Expr::Arithmetic(op, a, b), types))
    };
    match op {
        "=" => boolean(Expr::Equal(a, b, true)),
        "!=" => boolean(Expr::Equal(a, b, false)),
        "~" => boolean(Expr::Equivalent(a, b, true)),
        "!~" => boolean(Expr::Equivalent(a, b, false)),
        "<" => boolean(Expr::Compare(Comparison::Less, a, b)),
        "<=" => boolean(Expr::Compare(Comparison::LessOrEqual, a, b)),
        ">" => boolean(Expr::Compare(Comparison::Greater, a, b)),
        ">=" => boolean(Expr::Compare(Comparison::GreaterOrEqual, a, b)),
        "xor" => boolean(Expr::Xor(a, b)),
        "implies" => boolean(Expr::Implies(a, b)),
        "in" => boolean(Expr::In(a, b)),
        "contains" => boolean(Expr::In(b, a)),
        "&" => Ok(Typed::new(Expr::Concatenate(a, b), Types::one(system::STRING))),
        "+" => calculate(Arithmetic::Add, a, b),
        "-" => calculate(Arithmetic::Subtract, a, b),
        "*" => calculate(Arithmetic::Multiply, a, b),
        "/" => calculate(Arithmetic::Divide, a, b),
        "div" => calculate(Arithmetic::WholeDivide, a, b),
        "mod" => calculate(Arithmetic::Modulo, a, b),
        _ => Err(PathError {
            at,
            kind: PathErrorKind::Unsupported(format!("operator {op} is")),
        }),
    }
}
