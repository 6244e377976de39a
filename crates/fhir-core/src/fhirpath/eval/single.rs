//! The operators that yield one item or none: computed first, and passed on with nothing of them on the stack.

use super::{Focus, logic::truth, single};
use crate::fhirpath::{
    error::Fault,
    expr::{Arithmetic, Expr},
    functions::{self, Function},
    operators, path,
    types::TypeTest,
    value::{Item, Value},
};

/// Each operator has its own function: this one is on the stack once for each level of the expression, so it holds nothing.
pub(super) fn computed<'a>(expr: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<Item<'a>>, Fault> {
    match expr {
        Expr::As(base, test) => as_type(base, test, focus),
        Expr::Single(base) => single(base, focus, "single()"),
        Expr::Last(base) => functions::last(base, focus),
        Expr::Count(base) => functions::count(base, focus),
        Expr::Join(base, separator) => functions::join(base, separator.as_deref(), focus),
        Expr::Function(function, base, arguments) => call(function, base, arguments, focus),
        Expr::Arithmetic(op, a, b) => arithmetic(*op, a, b, focus),
        Expr::Negate(operand) => negate(operand, focus),
        Expr::Concatenate(a, b) => functions::concatenate(a, b, focus),
        Expr::Reduce(reduction, base) => functions::reduce(*reduction, base, focus),
        Expr::ReplaceMatches(base, pattern, with) => functions::replace_matches(base, pattern, with, focus),
        condition => decided(condition, focus),
    }
}

fn decided<'a>(condition: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<Item<'a>>, Fault> {
    Ok(truth(condition, focus)?.map(|value| Item::Value(Value::Boolean(value))))
}

fn as_type<'a>(base: &'a Expr, test: &TypeTest, focus: &Focus<'a, '_>) -> Result<Option<Item<'a>>, Fault> {
    Ok(single(base, focus, "as")?.filter(|item| {
        focus.resource.read(item);
        path::is_of_type(item, test)
    }))
}

fn arithmetic<'a>(
    op: Arithmetic,
    a: &'a Expr,
    b: &'a Expr,
    focus: &Focus<'a, '_>,
) -> Result<Option<Item<'a>>, Fault> {
    let symbol = op.symbol();
    match (single(a, focus, symbol)?, single(b, focus, symbol)?) {
        (Some(a), Some(b)) => Ok(operators::arithmetic(op, &a, &b, focus.resource)?.map(Item::Value)),
        _ => Ok(None),
    }
}

fn negate<'a>(operand: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<Item<'a>>, Fault> {
    match single(operand, focus, "-")? {
        Some(item) => Ok(operators::negate(&item, focus.resource)?.map(Item::Value)),
        None => Ok(None),
    }
}

/// A function of one item, on single arguments.
fn call<'a>(
    function: &'static Function,
    base: &'a Expr,
    arguments: &'a [Expr],
    focus: &Focus<'a, '_>,
) -> Result<Option<Item<'a>>, Fault> {
    let Some(item) = single(base, focus, function.shown())? else {
        return Ok(None);
    };
    let arguments = arguments
        .iter()
        .map(|argument| single(argument, focus, function.shown()))
        .collect::<Result<Vec<_>, _>>()?;
    focus.resource.steps(function.cost())?;
    for item in arguments.iter().flatten().chain([&item]) {
        focus.resource.read(item);
        focus.resource.characters(item.text_len())?;
    }
    let result = function.call(&item, &arguments)?;
    if let Some(Value::Text(text)) = &result {
        focus.resource.build(text.len())?;
    }
    Ok(result.map(Item::Value))
}
