//! Whether there are items, and how many (FHIRPath N1, section 5.1): `empty exists all allTrue … subsetOf supersetOf count distinct
//! isDistinct`, and `not`, `hasValue`.

use std::ops::ControlFlow;

use super::Compiling;
use crate::fhirpath::{
    compile::Typed,
    error::{Fault, PathError},
    eval::{Flow, Focus, Receiver, all, flow, for_each, stream, truth},
    expr::{Expr, Quantifier},
    model::{Types, system},
    operators,
    value::{Item, Value},
};
use crate::number::Integer;

pub(super) fn compile(call: &Compiling<'_>) -> Option<Result<Typed, PathError>> {
    // What is on the stack once for each level of the tree holds nothing.
    Some(match (call.name, call.args.len()) {
        ("exists" | "all", 1) => criteria(call),
        ("exists", 0) => test(call, Expr::Exists),
        ("exists", _) => Err(call.wrong("at most one argument, the criteria")),
        ("all", _) => Err(call.wrong("one argument, the criteria")),
        ("subsetOf" | "supersetOf", 1) => subset_of(call),
        ("subsetOf" | "supersetOf", _) => Err(call.wrong("one argument, a collection")),
        ("empty", 0) => test(call, Expr::IsEmpty),
        ("not", 0) => test(call, Expr::Not),
        ("hasValue", 0) => test(call, Expr::HasValue),
        ("isDistinct", 0) => test(call, Expr::IsDistinct),
        ("allTrue", 0) => test(call, |on| Expr::Quantified(Quantifier::AllTrue, on)),
        ("anyTrue", 0) => test(call, |on| Expr::Quantified(Quantifier::AnyTrue, on)),
        ("allFalse", 0) => test(call, |on| Expr::Quantified(Quantifier::AllFalse, on)),
        ("anyFalse", 0) => test(call, |on| Expr::Quantified(Quantifier::AnyFalse, on)),
        ("count", 0) => counted(call),
        ("distinct", 0) => distinct_items(call),
        (
            "empty" | "not" | "hasValue" | "isDistinct" | "allTrue" | "anyTrue" | "allFalse" | "anyFalse"
            | "count" | "distinct",
            _,
        ) => Err(call.wrong("no argument")),
        _ => return None,
    })
}

fn test(call: &Compiling<'_>, make: fn(Box<Expr>) -> Expr) -> Result<Typed, PathError> {
    let expr = make(Box::new(call.on()?.expr));
    Ok(Typed::new(expr, Types::one(system::BOOLEAN)))
}

fn criteria(call: &Compiling<'_>) -> Result<Typed, PathError> {
    let on = call.on()?;
    let criteria = Box::new(call.each(0, &on.types)?.expr);
    let on = Box::new(on.expr);
    let expr = match call.name {
        "all" => Expr::All(on, criteria),
        _ => Expr::Exists(Box::new(Expr::Where(on, criteria))),
    };
    Ok(Typed::new(expr, Types::one(system::BOOLEAN)))
}

fn subset_of(call: &Compiling<'_>) -> Result<Typed, PathError> {
    let (on, other) = (Box::new(call.on()?.expr), Box::new(call.argument(0)?.expr));
    let expr = match call.name {
        "supersetOf" => Expr::SubsetOf(other, on),
        _ => Expr::SubsetOf(on, other),
    };
    Ok(Typed::new(expr, Types::one(system::BOOLEAN)))
}

fn counted(call: &Compiling<'_>) -> Result<Typed, PathError> {
    let expr = Expr::Count(Box::new(call.on()?.expr));
    Ok(Typed::new(expr, Types::one(system::INTEGER)))
}

fn distinct_items(call: &Compiling<'_>) -> Result<Typed, PathError> {
    let on = call.on()?;
    Ok(Typed::new(Expr::Distinct(Box::new(on.expr)), on.types))
}

/// `.all(criteria)`: true of nothing.
pub(in crate::fhirpath) fn every<'a>(
    operand: &'a Expr,
    criteria: &'a Expr,
    focus: &Focus<'a, '_>,
) -> Result<bool, Fault> {
    let mut index = -1;
    let mut all = true;
    for_each(operand, focus, |item| {
        index += 1;
        all = all && truth(criteria, &focus.at(item, index))? == Some(true);
        Ok(())
    })?;
    Ok(all)
}

/// `.allTrue()`, `.anyTrue()`, …: of booleans only; one without a value is neither true nor false.
pub(in crate::fhirpath) fn quantified<'a>(
    quantifier: Quantifier,
    operand: &'a Expr,
    focus: &Focus<'a, '_>,
) -> Result<bool, Fault> {
    let (wanted, all) = quantifier.asks();
    let mut answer = all;
    for_each(operand, focus, |item| {
        let value = item.boolean();
        if value.is_none() && (item.value().is_some() || item.is_complex()) {
            return Err(Fault::Argument(quantifier.name()));
        }
        if (value == Some(wanted)) != all {
            answer = !all;
        }
        Ok(())
    })?;
    Ok(answer)
}

/// `.count()`
pub(in crate::fhirpath) fn count<'a>(
    base: &'a Expr,
    focus: &Focus<'a, '_>,
) -> Result<Option<Item<'a>>, Fault> {
    let mut count = 0;
    for_each(base, focus, |_| {
        count += 1;
        Ok(())
    })?;
    Ok(Some(Item::Value(Value::Integer(Integer::of(count)))))
}

/// `.subsetOf(other)`
pub(in crate::fhirpath) fn subset<'a>(
    a: &'a Expr,
    b: &'a Expr,
    focus: &Focus<'a, '_>,
) -> Result<bool, Fault> {
    let of = all(b, focus)?;
    let mut subset = true;
    for_each(a, focus, |item| {
        subset = subset && is_among(&item, of.as_slice(), focus)?;
        Ok(())
    })?;
    Ok(subset)
}

/// Whether an item equals one of a list; each comparison is a step.
pub(in crate::fhirpath) fn is_among<'a>(
    item: &Item<'a>,
    list: &[Item<'a>],
    focus: &Focus<'a, '_>,
) -> Result<bool, Fault> {
    for other in list {
        focus.resource.step()?;
        if operators::same(item, other, focus.resource) == Some(true) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// `.distinct()`: each item where it first comes.
pub(in crate::fhirpath) fn distinct<'a>(
    base: &'a Expr,
    focus: &Focus<'a, '_>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let mut seen: Vec<Item<'a>> = Vec::new();
    stream(base, focus, &mut |item| {
        if flow(keep_new(&mut seen, &item, focus))? {
            return receive(item);
        }
        ControlFlow::Continue(())
    })
}

/// Keeps an item that was not seen before; whether it was not.
pub(in crate::fhirpath) fn keep_new<'a>(
    seen: &mut Vec<Item<'a>>,
    item: &Item<'a>,
    focus: &Focus<'a, '_>,
) -> Result<bool, Fault> {
    if is_among(item, seen, focus)? {
        return Ok(false);
    }
    focus.resource.copied(item)?;
    seen.push(item.clone());
    Ok(true)
}

/// `.isDistinct()`
pub(in crate::fhirpath) fn is_distinct<'a>(base: &'a Expr, focus: &Focus<'a, '_>) -> Result<bool, Fault> {
    let mut seen: Vec<Item<'a>> = Vec::new();
    let mut distinct = true;
    for_each(base, focus, |item| {
        distinct = distinct && keep_new(&mut seen, &item, focus)?;
        Ok(())
    })?;
    Ok(distinct)
}
