//! Functions by name: what is supported, with which arguments.

use super::{
    ast::{Ast, Literal},
    compile::{Scope, base_of, boxed},
    error::{PathError, PathErrorKind},
    expr::Expr,
    parser,
    types::TypeTest,
};

/// All functions, as an error lists them.
pub const SUPPORTED: [&str; 22] = [
    "all",
    "as",
    "count",
    "empty",
    "exists",
    "extension",
    "first",
    "getReferenceKey",
    "getResourceKey",
    "hasValue",
    "iif",
    "is",
    "join",
    "last",
    "not",
    "ofType",
    "select",
    "single",
    "skip",
    "tail",
    "take",
    "where",
];

/// Compiles a call. `base` is what it is called on, the focus if absent.
pub(super) fn call(
    at: usize,
    base: Option<&Ast>,
    name: &str,
    args: &[Ast],
    scope: &Scope,
) -> Result<Expr, PathError> {
    let fail = |kind| PathError { at, kind };
    let wrong = |takes| {
        Err(fail(PathErrorKind::Arguments {
            name: name.to_owned(),
            takes,
        }))
    };
    let on = || base_of(base, scope);
    Ok(match (name, args) {
        ("where", [criteria]) => Expr::Where(on()?, boxed(criteria, scope)?),
        ("select", [projection]) => Expr::Select(on()?, boxed(projection, scope)?),
        ("all", [criteria]) => Expr::All(on()?, boxed(criteria, scope)?),
        ("where" | "all", _) => return wrong("one argument, the criteria"),
        ("select", _) => return wrong("one argument, the projection"),
        ("exists", []) => Expr::Exists(on()?),
        ("exists", [criteria]) => Expr::Exists(Box::new(Expr::Where(on()?, boxed(criteria, scope)?))),
        ("exists", _) => return wrong("at most one argument, the criteria"),
        ("empty", []) => Expr::IsEmpty(on()?),
        ("count", []) => Expr::Count(on()?),
        ("first", []) => Expr::First(on()?),
        ("last", []) => Expr::Last(on()?),
        ("tail", []) => Expr::Skip(on()?, Box::new(Expr::Literal(Literal::Integer(1)))),
        ("single", []) => Expr::Single(on()?),
        ("not", []) => Expr::Not(on()?),
        ("hasValue", []) => Expr::HasValue(on()?),
        ("getResourceKey", []) => Expr::ResourceKey(on()?),
        (
            "empty" | "count" | "first" | "last" | "tail" | "single" | "not" | "hasValue" | "getResourceKey",
            _,
        ) => {
            return wrong("no argument");
        }
        ("skip", [n]) => Expr::Skip(on()?, boxed(n, scope)?),
        ("take", [n]) => Expr::Take(on()?, boxed(n, scope)?),
        ("skip" | "take", _) => return wrong("one argument, a number"),
        ("extension", [url]) => Expr::Extension(on()?, boxed(url, scope)?),
        ("extension", _) => return wrong("one argument, the url"),
        ("join", []) => Expr::Join(on()?, None),
        ("join", [separator]) => Expr::Join(on()?, Some(boxed(separator, scope)?)),
        ("join", _) => return wrong("at most one argument, the separator"),
        ("iif", [criterion, then]) => conditional(on()?, criterion, then, None, scope)?,
        ("iif", [criterion, then, otherwise]) => conditional(on()?, criterion, then, Some(otherwise), scope)?,
        ("iif", _) => return wrong("a criterion, a result and at most one other result"),
        ("ofType" | "as" | "is", [type_arg]) => {
            let test = type_test(type_arg)?;
            match name {
                "is" => Expr::Is(on()?, test),
                "as" => Expr::As(on()?, test),
                _ => of_type(*on()?, test),
            }
        }
        ("ofType" | "as" | "is", _) => return wrong("one argument, a type"),
        ("getReferenceKey", []) => Expr::ReferenceKey(on()?, None),
        ("getReferenceKey", [type_arg]) => Expr::ReferenceKey(on()?, Some(type_test(type_arg)?.name)),
        ("getReferenceKey", _) => return wrong("at most one argument, a resource type"),
        _ => {
            let supported = SUPPORTED.join(", ");
            return Err(fail(PathErrorKind::Function {
                name: name.to_owned(),
                supported,
            }));
        }
    })
}

fn type_test(ast: &Ast) -> Result<TypeTest, PathError> {
    let name = parser::type_name(ast).ok_or_else(|| PathError {
        at: ast.at,
        kind: PathErrorKind::Token {
            found: "an expression".into(),
            expected: "the name of a type",
        },
    })?;
    TypeTest::of(&name).ok_or(PathError {
        at: ast.at,
        kind: PathErrorKind::Type(name),
    })
}

/// `value.ofType(Quantity)`: looked up as `valueQuantity` at once.
fn of_type(on: Expr, test: TypeTest) -> Expr {
    match on {
        Expr::Member(base, member) => {
            let keys = test
                .suffixes
                .iter()
                .map(|s| format!("{}{s}", member.name))
                .collect();
            Expr::Choice(base, member, keys, test)
        }
        other => Expr::OfType(Box::new(other), test),
    }
}

/// `on.iif(…)`: the arguments are evaluated with the item `on` as focus.
fn conditional(
    on: Box<Expr>,
    criterion: &Ast,
    then: &Ast,
    otherwise: Option<&Ast>,
    scope: &Scope,
) -> Result<Expr, PathError> {
    let otherwise = otherwise.map_or_else(|| Ok(Box::new(Expr::Empty)), |o| boxed(o, scope))?;
    let choice = Expr::If(boxed(criterion, scope)?, boxed(then, scope)?, otherwise);
    Ok(if *on == Expr::This {
        choice
    } else {
        Expr::Select(on, Box::new(choice))
    })
}
