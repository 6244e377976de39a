//! The operators that yield one item or none: computed first, and passed on with nothing of them on the stack.

use super::{Focus, logic::truth, single};
use crate::fhirpath::{
    error::Fault,
    expr::Expr,
    functions::{self, Function},
    operators, path,
    value::{Item, Value},
};

pub(super) fn computed<'a>(expr: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<Item<'a>>, Fault> {
    match expr {
        Expr::As(base, test) => Ok(single(base, focus, "as")?.filter(|item| path::is_of_type(item, test))),
        Expr::Single(base) => single(base, focus, "single()"),
        Expr::Last(base) => functions::last(base, focus),
        Expr::Count(base) => Ok(Some(Item::Value(Value::Integer(functions::count(base, focus)?)))),
        Expr::Join(base, separator) => {
            let joined = functions::join(base, separator.as_deref(), focus)?;
            Ok(joined.map(|text| Item::Value(Value::Text(text))))
        }
        Expr::Function(function, base, arguments) => call(function, base, arguments, focus),
        Expr::Arithmetic(op, a, b) => {
            let symbol = op.symbol();
            match (single(a, focus, symbol)?, single(b, focus, symbol)?) {
                (Some(a), Some(b)) => Ok(operators::arithmetic(*op, &a, &b)?.map(Item::Value)),
                _ => Ok(None),
            }
        }
        Expr::Negate(operand) => match single(operand, focus, "-")? {
            Some(item) => Ok(operators::negate(&item)?.map(Item::Value)),
            None => Ok(None),
        },
        Expr::Concatenate(a, b) => functions::concatenate(a, b, focus),
        Expr::Reduce(reduction, base) => functions::reduce(*reduction, base, focus),
        Expr::ReplaceMatches(base, pattern, with) => functions::replace_matches(base, pattern, with, focus),
        condition => Ok(truth(condition, focus)?.map(|value| Item::Value(Value::Boolean(value)))),
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
    let result = function.call(&item, &arguments)?;
    if let Some(Value::Text(text)) = &result {
        focus.resource.charge(text.len())?;
    }
    Ok(result.map(Item::Value))
}
