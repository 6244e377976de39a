//! Syntax tree to operators: functions, types and constants resolved, everything unknown refused by name.

use std::{cell::RefCell, collections::HashMap};

use super::{
    ast::{Ast, AstKind, Literal},
    error::{PathError, PathErrorKind},
    expr::{Arithmetic, Comparison, Expr, Key, Member},
    functions::{self, Automaton, Patterns},
    model::{self, Class, Type, Types, system},
    parser,
    temporal::Form,
    types::{TypeTest, capitalised},
};

/// What an expression's names mean: the view's constants, and the resource.
#[derive(Debug, Default)]
pub(crate) struct Scope {
    constants: HashMap<String, Literal>,
    resource: Types,
    patterns: RefCell<Patterns>,
}

/// Names after `%` that the languages define; a view's constant cannot take them.
pub(crate) const RESERVED_CONSTANTS: [&str; 7] = [
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
pub(crate) struct Typed {
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
    pub(crate) fn of(resource_type: &str) -> Self {
        Self {
            constants: HashMap::new(),
            resource: Type::fhir(resource_type).map_or(Types::UNKNOWN, Types::one),
            patterns: RefCell::default(),
        }
    }

    /// Makes a constant known.
    pub(crate) fn define(&mut self, name: String, value: Literal) {
        self.constants.insert(name, value);
    }

    /// The types of the resource.
    pub(crate) fn resource(&self) -> &Types {
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

    /// A regular expression of the view.
    pub(super) fn pattern(&self, text: &str, whole: bool) -> Result<Automaton, &'static str> {
        self.scope.patterns.borrow_mut().get(text, whole)
    }
}

/// Compiles one expression that is evaluated on items of these types.
pub(crate) fn compile_on(text: &str, scope: &Scope, focus: &Types) -> Result<Typed, PathError> {
    let context = Context {
        scope,
        this: focus.clone(),
        whole: focus.clone(),
    };
    expression(&parser::parse(text)?, &context)
}

/// Each kind of node has its own function: this one is on the stack once for each level of the tree, so it holds nothing.
pub(super) fn expression(ast: &Ast, context: &Context<'_>) -> Result<Typed, PathError> {
    match &ast.kind {
        AstKind::Literal(literal) => Ok(stated(literal)),
        AstKind::Empty => Ok(Typed::empty()),
        AstKind::Special(word) => special(ast.at, word, context),
        AstKind::Behind { base, word } => {
            expression(base, context).and_then(|_| special(ast.at, word, context))
        }
        AstKind::Constant(name) => constant(name, context).ok_or_else(|| PathError {
            at: ast.at,
            kind: PathErrorKind::Constant(name.clone()),
        }),
        AstKind::Member { base: None, name } if name.starts_with(|c: char| c.is_ascii_uppercase()) => {
            Ok(root(name, context))
        }
        AstKind::Member { base, name } => step(base.as_deref(), name, context),
        AstKind::Call { base, name, args } => functions::call(ast.at, base.as_deref(), name, args, context),
        AstKind::Indexer { base, index } => indexed(base, index, context),
        AstKind::Negate(operand) => negated(operand, context),
        AstKind::Binary { op, operands } => binary(ast.at, op, operands, context),
        AstKind::Type { op, operand, name } => typed(ast.at, op, operand, name, context),
    }
}

/// `$this`, `$index`, `$total`
fn special(at: usize, word: &str, context: &Context<'_>) -> Result<Typed, PathError> {
    Ok(match word {
        "this" => Typed::new(Expr::This, context.this.clone()),
        "index" => Typed::new(Expr::Index, Types::one(system::INTEGER)),
        "total" => Typed::new(Expr::Total, Types::UNKNOWN),
        _ => {
            return Err(PathError {
                at,
                kind: PathErrorKind::Unsupported(format!("${word} is")),
            });
        }
    })
}

/// A path's first word, if it is capitalised: a type.
fn root(name: &str, context: &Context<'_>) -> Typed {
    let types = Type::fhir(name).map_or(Types::UNKNOWN, |of| context.this.narrowed(of));
    Typed::new(Expr::Root(name.to_owned()), types)
}

/// `base.name`
fn step(base: Option<&Ast>, name: &str, context: &Context<'_>) -> Result<Typed, PathError> {
    let base = base_of(base, context)?;
    let (member, types) = member(&base.types, name);
    Ok(Typed::new(Expr::Member(Box::new(base.expr), member), types))
}

/// `base[index]`
fn indexed(base: &Ast, index: &Ast, context: &Context<'_>) -> Result<Typed, PathError> {
    let base = expression(base, context)?;
    let index = expression(index, context)?.expr;
    let expr = Expr::Item(Box::new(base.expr), Box::new(index));
    Ok(Typed::new(expr, base.types))
}

/// `-operand`
fn negated(operand: &Ast, context: &Context<'_>) -> Result<Typed, PathError> {
    Ok(match expression(operand, context)? {
        Typed {
            expr: Expr::Literal(Literal::Integer(value)),
            types,
        } if value > i32::MIN => Typed::new(Expr::Literal(Literal::Integer(-value)), types),
        // The least integer is the opposite of a number that is none; a constant stays an integer64.
        Typed {
            expr: Expr::Literal(Literal::Integer64(value)),
            ..
        } if value > i64::MIN => stated(&if matches!(operand.kind, AstKind::Literal(_)) {
            Literal::whole(-value)
        } else {
            Literal::Integer64(-value)
        }),
        inner => Typed::new(Expr::Negate(Box::new(inner.expr)), inner.types.computed()),
    })
}

/// `operand is Type`, `operand as Type`
fn typed(at: usize, op: &str, operand: &Ast, name: &str, context: &Context<'_>) -> Result<Typed, PathError> {
    let test = TypeTest::of(name).ok_or_else(|| PathError {
        at,
        kind: PathErrorKind::Type(name.to_owned()),
    })?;
    let operand = expression(operand, context)?;
    if op == "as" {
        return Ok(as_type(operand, test));
    }
    let expr = Expr::Is(Box::new(operand.expr), test);
    Ok(Typed::new(expr, Types::one(system::BOOLEAN)))
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
    if let ([system::QUANTITY], "value" | "unit") = (types, name) {
        let of = if name == "value" {
            system::DECIMAL
        } else {
            system::STRING
        };
        return (untyped().0, Types::one(of));
    }
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
        Literal::Integer64(_) => system::LONG,
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
    let url = |url: &str| stated(&Literal::Text(url.into()));
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

/// The types of a sum, product, …; unknown, if one of the operands' is.
fn arithmetic(op: Arithmetic, left: &Types, right: &Types) -> Types {
    let (left, right) = (left.computed(), right.computed());
    let (Some(a), Some(b)) = (left.single(), right.single()) else {
        return Types::UNKNOWN;
    };
    Types::one(match (a.class(), b.class()) {
        (Class::Integer, Class::Integer) if op != Arithmetic::Divide => system::INTEGER,
        (Class::Integer | Class::Integer64, Class::Integer | Class::Integer64)
            if op != Arithmetic::Divide =>
        {
            system::LONG
        }
        (Class::Integer64, _) | (_, Class::Integer64) if op == Arithmetic::WholeDivide => system::LONG,
        _ if op == Arithmetic::WholeDivide => system::INTEGER,
        (
            Class::Integer | Class::Integer64 | Class::Decimal,
            Class::Integer | Class::Integer64 | Class::Decimal,
        ) => system::DECIMAL,
        (Class::Quantity, _) | (_, Class::Quantity)
            if matches!(a.class(), Class::Integer | Class::Integer64 | Class::Decimal) =>
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
    if matches!(op, "and" | "or" | "|") {
        return Ok(chain(op, compiled));
    }
    match (compiled.pop(), compiled.pop()) {
        (Some(right), Some(left)) => pair(at, op, left, right),
        _ => Ok(Typed::empty()),
    }
}

fn boolean(expr: Expr) -> Typed {
    Typed::new(expr, Types::one(system::BOOLEAN))
}

/// The operators that are associative, so that a long chain of one is not deep.
fn chain(op: &str, operands: Vec<Typed>) -> Typed {
    let types = operands
        .iter()
        .fold(Types::none(), |types, operand| types.or(&operand.types));
    let operands = operands.into_iter().map(|operand| operand.expr).collect();
    match op {
        "and" => boolean(Expr::And(operands)),
        "or" => boolean(Expr::Or(operands)),
        _ => Typed::new(Expr::Union(operands), types),
    }
}

fn pair(at: usize, op: &'static str, left: Typed, right: Typed) -> Result<Typed, PathError> {
    let (a, b) = (Box::new(left.expr), Box::new(right.expr));
    let calculate = |op, a, b| {
        let types = arithmetic(op, &left.types, &right.types);
        Typed::new(Expr::Arithmetic(op, a, b), types)
    };
    Ok(match op {
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
        "&" => Typed::new(Expr::Concatenate(a, b), Types::one(system::STRING)),
        "+" => calculate(Arithmetic::Add, a, b),
        "-" => calculate(Arithmetic::Subtract, a, b),
        "*" => calculate(Arithmetic::Multiply, a, b),
        "/" => calculate(Arithmetic::Divide, a, b),
        "div" => calculate(Arithmetic::WholeDivide, a, b),
        "mod" => calculate(Arithmetic::Modulo, a, b),
        _ => {
            return Err(PathError {
                at,
                kind: PathErrorKind::Unsupported(format!("operator {op} is")),
            });
        }
    })
}
