//! Filtering, projection and choice (FHIRPath N1, sections 5.2, 5.5.1, 5.9 and 6.3): `where select repeat ofType is as iif trace`.

use std::{collections::VecDeque, ops::ControlFlow};

use super::{Compiling, existence::keep_new};
use crate::fhirpath::{
    compile::{Typed, as_type, of_type},
    error::Fault,
    error::PathError,
    eval::{Flow, Focus, MAX_ITEMS, Receiver, fault, flow, stream, truth},
    expr::Expr,
    model::{Types, system},
};

pub(super) fn compile(call: &Compiling<'_>) -> Option<Result<Typed, PathError>> {
    // Each function has its own: this one is on the stack once for each level of the tree, so it holds nothing.
    Some(match (call.name, call.args.len()) {
        ("where", 1) => filtered(call),
        ("where", _) => Err(call.wrong("one argument, the criteria")),
        ("select", 1) => projected(call),
        ("repeat", 1) => repeated(call),
        ("select" | "repeat", _) => Err(call.wrong("one argument, the projection")),
        ("ofType" | "as" | "is", 1) => of_type_named(call),
        ("ofType" | "as" | "is", _) => Err(call.wrong("one argument, a type")),
        ("iif", 2 | 3) => conditional(call),
        ("iif", _) => Err(call.wrong("a criterion, a result and at most one other result")),
        ("trace", 1 | 2) => traced(call),
        ("trace", _) => Err(call.wrong("a name and at most a projection")),
        _ => return None,
    })
}

fn filtered(call: &Compiling<'_>) -> Result<Typed, PathError> {
    let on = call.on()?;
    let criteria = Box::new(call.each(0, &on.types)?.expr);
    Ok(Typed::new(Expr::Where(Box::new(on.expr), criteria), on.types))
}

fn projected(call: &Compiling<'_>) -> Result<Typed, PathError> {
    let on = call.on()?;
    let projection = call.each(0, &on.types)?;
    let expr = Expr::Select(Box::new(on.expr), Box::new(projection.expr));
    Ok(Typed::new(expr, projection.types))
}

/// What it is evaluated on is what it yields: the elements tell their types.
fn repeated(call: &Compiling<'_>) -> Result<Typed, PathError> {
    let on = Box::new(call.on()?.expr);
    let projection = Box::new(call.each(0, &Types::UNKNOWN)?.expr);
    Ok(Typed::new(Expr::Repeat(on, projection), Types::UNKNOWN))
}

fn of_type_named(call: &Compiling<'_>) -> Result<Typed, PathError> {
    let (on, test) = (call.on()?, call.type_test(0)?);
    Ok(match call.name {
        "ofType" => of_type(on, test),
        "as" => as_type(on, test),
        _ => {
            let expr = Expr::Is(Box::new(on.expr), test);
            Typed::new(expr, Types::one(system::BOOLEAN))
        }
    })
}

/// It tells nobody: a log would hold what the resource does. Its projection is only looked at.
fn traced(call: &Compiling<'_>) -> Result<Typed, PathError> {
    let on = call.on()?;
    call.each(1, &on.types)?;
    Ok(on)
}

/// `on.iif(…)`: the arguments are evaluated with the item `on`, or nothing, as focus.
fn conditional(call: &Compiling<'_>) -> Result<Typed, PathError> {
    let on = call.on()?;
    let argument = |at| call.each(at, &on.types);
    let (criterion, then, otherwise) = (argument(0)?, argument(1)?, argument(2)?);
    let types = then.types.or(&otherwise.types);
    let choice = Expr::If(
        Box::new(criterion.expr),
        Box::new(then.expr),
        Box::new(otherwise.expr),
    );
    Ok(Typed::new(
        if on.expr == Expr::This {
            choice
        } else {
            Expr::On(Box::new(on.expr), Box::new(choice))
        },
        types,
    ))
}

/// `.where(criteria)`
pub(in crate::fhirpath) fn filter<'a>(
    base: &'a Expr,
    criteria: &'a Expr,
    focus: &Focus<'a, '_>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let mut index = -1;
    stream(base, focus, &mut |item| {
        index += 1;
        flow(focus.resource.copied(&item))?;
        match flow(truth(criteria, &focus.at(item.clone(), index)))? {
            Some(true) => receive(item),
            _ => ControlFlow::Continue(()),
        }
    })
}

/// `.select(projection)`
pub(in crate::fhirpath) fn project<'a>(
    base: &'a Expr,
    projection: &'a Expr,
    focus: &Focus<'a, '_>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let mut index = -1;
    stream(base, focus, &mut |item| {
        index += 1;
        stream(projection, &focus.at(item, index), receive)
    })
}

/// `.repeat(projection)`: each item once, so that it ends.
pub(in crate::fhirpath) fn repeat<'a>(
    base: &'a Expr,
    projection: &'a Expr,
    focus: &Focus<'a, '_>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let mut waiting = VecDeque::new();
    stream(base, focus, &mut |item| {
        waiting.push_back(item);
        within(waiting.len())
    })?;
    let mut seen = Vec::new();
    while let Some(item) = waiting.pop_front() {
        stream(projection, &focus.at(item, 0), &mut |found| {
            if flow(keep_new(&mut seen, &found, focus))? {
                flow(focus.resource.copied(&found))?;
                waiting.push_back(found.clone());
                receive(found)?;
            }
            within(seen.len())
        })?;
    }
    ControlFlow::Continue(())
}

/// Whether a collection may be kept that is so large.
pub(in crate::fhirpath) fn within(items: usize) -> Flow {
    if items > MAX_ITEMS {
        return fault(Fault::TooMany(MAX_ITEMS));
    }
    ControlFlow::Continue(())
}
