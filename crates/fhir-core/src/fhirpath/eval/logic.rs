//! Conditions (FHIRPath N1, section 6.5): true, false or empty.

use std::ops::ControlFlow;

use super::{Focus, Stop, all, for_each, single, stream};
use crate::fhirpath::{
    ast::Literal,
    error::Fault,
    expr::{Comparison, Expr},
    functions, operators, path,
    types::TypeTest,
};

/// A condition by three-valued logic: `None` is empty. A single item that is no boolean counts as true (FHIRPath, section 4.5).
pub(crate) fn truth<'a>(expr: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<bool>, Fault> {
    focus.resource.step()?;
    match expr {
        Expr::And(operands) => chain(operands, focus, false),
        Expr::Or(operands) => chain(operands, focus, true),
        Expr::Xor(a, b) => Ok(truth(a, focus)?.zip(truth(b, focus)?).map(|(a, b)| a != b)),
        Expr::Implies(a, b) => Ok(match truth(a, focus)? {
            Some(false) => Some(true),
            Some(true) => truth(b, focus)?,
            None => truth(b, focus)?.filter(|b| *b),
        }),
        Expr::Not(operand) => Ok(truth(operand, focus)?.map(|value| !value)),
        Expr::Exists(operand) => Ok(Some(any(operand, focus)?)),
        Expr::IsEmpty(operand) => Ok(Some(!any(operand, focus)?)),
        Expr::Literal(Literal::Boolean(value)) => Ok(Some(*value)),
        other => match comparison(other, focus)? {
            Answer::Is(value) => Ok(value),
            Answer::NoCondition => {
                Ok(single(other, focus, "a condition")?.map(|item| item.boolean().unwrap_or(true)))
            }
        },
    }
}

/// What an operator answers that can only be true, false or empty.
pub(super) enum Answer {
    Is(Option<bool>),
    /// It is none of those operators.
    NoCondition,
}

/// Comparisons, and functions that yield a boolean. It is on the stack once for each level of the expression, so it holds no items.
pub(super) fn comparison<'a>(expr: &'a Expr, focus: &Focus<'a, '_>) -> Result<Answer, Fault> {
    Ok(Answer::Is(match expr {
        Expr::Equal(a, b, positive) => equal(a, b, focus)?.map(|equal| equal == *positive),
        Expr::Equivalent(a, b, positive) => Some(equivalent(a, b, focus)? == *positive),
        Expr::Compare(op, a, b) => order(*op, a, b, focus)?,
        Expr::In(item, collection) => among(item, collection, focus)?,
        Expr::All(operand, criteria) => Some(functions::every(operand, criteria, focus)?),
        Expr::Is(operand, test) => is_of_type(operand, test, focus)?,
        Expr::HasValue(operand) => Some(has_value(operand, focus)?),
        Expr::Quantified(quantifier, operand) => Some(functions::quantified(*quantifier, operand, focus)?),
        Expr::IsDistinct(operand) => Some(functions::is_distinct(operand, focus)?),
        Expr::SubsetOf(a, b) => Some(functions::subset(a, b, focus)?),
        Expr::Matches(on, pattern, whole) => functions::matches(on, pattern, *whole, focus)?,
        _ => return Ok(Answer::NoCondition),
    }))
}

/// `or` (decided by true) and `and` (decided by false); empty, if none decides and one is empty.
fn chain<'a>(operands: &'a [Expr], focus: &Focus<'a, '_>, decides: bool) -> Result<Option<bool>, Fault> {
    let mut answer = Some(!decides);
    for operand in operands {
        match truth(operand, focus)? {
            Some(value) if value == decides => return Ok(Some(decides)),
            Some(_) => {}
            None => answer = None,
        }
    }
    Ok(answer)
}

fn equal<'a>(a: &'a Expr, b: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<bool>, Fault> {
    Ok(operators::equal(&all(a, focus)?, &all(b, focus)?, focus.resource))
}

fn equivalent<'a>(a: &'a Expr, b: &'a Expr, focus: &Focus<'a, '_>) -> Result<bool, Fault> {
    let (a, b) = (all(a, focus)?, all(b, focus)?);
    operators::equivalent(a.as_slice(), b.as_slice(), focus)
}

fn order<'a>(op: Comparison, a: &'a Expr, b: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<bool>, Fault> {
    let symbol = op.symbol();
    match (single(a, focus, symbol)?, single(b, focus, symbol)?) {
        (Some(a), Some(b)) => operators::compare(op, &a, &b, focus.resource),
        _ => Ok(None),
    }
}

fn is_of_type<'a>(operand: &'a Expr, test: &TypeTest, focus: &Focus<'a, '_>) -> Result<Option<bool>, Fault> {
    Ok(single(operand, focus, "is")?.map(|item| {
        focus.resource.read(&item);
        path::is_of_type(&item, test)
    }))
}

/// `hasValue()`: whether there is just one item, and it is a primitive with a value (FHIR R4, fhirpath.html).
fn has_value<'a>(operand: &'a Expr, focus: &Focus<'a, '_>) -> Result<bool, Fault> {
    let (mut items, mut has) = (0, false);
    for_each(operand, focus, |item| {
        items += 1;
        has = item.value().is_some();
        Ok(())
    })?;
    Ok(items == 1 && has)
}

/// `in`: empty for no item.
fn among<'a>(item: &'a Expr, collection: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<bool>, Fault> {
    let Some(item) = single(item, focus, "in")? else {
        return Ok(None);
    };
    let mut found = false;
    for_each(collection, focus, |other| {
        found |= operators::same(&item, &other, focus.resource) == Some(true);
        Ok(())
    })?;
    Ok(Some(found))
}

/// Whether there is an item.
fn any<'a>(expr: &'a Expr, focus: &Focus<'a, '_>) -> Result<bool, Fault> {
    match stream(expr, focus, &mut |_| ControlFlow::Break(Stop::Done)) {
        ControlFlow::Break(Stop::Fault(error)) => Err(error),
        ControlFlow::Break(Stop::Done) => Ok(true),
        ControlFlow::Continue(()) => Ok(false),
    }
}
