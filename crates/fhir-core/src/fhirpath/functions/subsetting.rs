//! Parts of a collection (FHIRPath N1, section 5.3): `[n] single first last tail skip take intersect exclude`.

use std::ops::ControlFlow;

use super::{
    Compiling,
    existence::{is_among, keep_new},
};
use crate::fhirpath::{
    ast::Literal,
    compile::Typed,
    error::{Fault, PathError},
    eval::{Flow, Focus, Receiver, Stop, all, fault, flow, for_each, single, stream},
    expr::Expr,
    value::{Item, Value},
};

pub(super) fn compile(call: &Compiling<'_>) -> Option<Result<Typed, PathError>> {
    build(call, call.args.len()).transpose()
}

fn build(call: &Compiling<'_>, arguments: usize) -> Result<Option<Typed>, PathError> {
    let on = |make: &dyn Fn(Box<Expr>) -> Expr| {
        let on = call.on()?;
        Ok(Some(Typed::new(make(Box::new(on.expr)), on.types)))
    };
    let two = |make: fn(Box<Expr>, Box<Expr>) -> Expr| {
        let (on, other) = (call.on()?, call.argument(0)?);
        let expr = make(Box::new(on.expr), Box::new(other.expr));
        Ok(Some(Typed::new(expr, on.types)))
    };
    match (call.name, arguments) {
        ("first", 0) => on(&Expr::First),
        ("last", 0) => on(&Expr::Last),
        ("single", 0) => on(&Expr::Single),
        ("tail", 0) => on(&|on| Expr::Skip(on, Box::new(Expr::Literal(Literal::Integer(1))))),
        ("first" | "last" | "single" | "tail", _) => Err(call.wrong("no argument")),
        ("skip", 1) => two(Expr::Skip),
        ("take", 1) => two(Expr::Take),
        ("skip" | "take", _) => Err(call.wrong("one argument, a number")),
        ("intersect", 1) => two(Expr::Intersect),
        ("exclude", 1) => two(Expr::Exclude),
        ("intersect" | "exclude", _) => Err(call.wrong("one argument, a collection")),
        _ => Ok(None),
    }
}

/// Passes on the item at a place of the whole collection, and stops what is below there.
pub(in crate::fhirpath) fn pass_at<'a>(
    base: &'a Expr,
    focus: &Focus<'a, '_>,
    index: i64,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let mut at = -1;
    let mut answer = ControlFlow::Continue(());
    let end = stream(base, focus, &mut |item| {
        at += 1;
        if at < index {
            return ControlFlow::Continue(());
        }
        if at == index {
            answer = receive(item);
        }
        ControlFlow::Break(Stop::Done)
    });
    ended(end, answer)
}

/// What a stream that was stopped on purpose comes to.
fn ended(end: Flow, answer: Flow) -> Flow {
    match end {
        ControlFlow::Break(Stop::Fault(error)) => fault(error),
        _ => answer,
    }
}

/// `.skip(n)`
pub(in crate::fhirpath) fn skip<'a>(
    base: &'a Expr,
    focus: &Focus<'a, '_>,
    count: i64,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let mut seen = 0;
    stream(base, focus, &mut |item| {
        seen += 1;
        if seen > count {
            receive(item)
        } else {
            ControlFlow::Continue(())
        }
    })
}

/// `.take(n)`
pub(in crate::fhirpath) fn take<'a>(
    base: &'a Expr,
    focus: &Focus<'a, '_>,
    count: i64,
    receive: Receiver<'_, 'a>,
) -> Flow {
    if count <= 0 {
        return ControlFlow::Continue(());
    }
    let mut left = count;
    let mut answer = ControlFlow::Continue(());
    let end = stream(base, focus, &mut |item| {
        left -= 1;
        answer = receive(item);
        if left == 0 || answer.is_break() {
            ControlFlow::Break(Stop::Done)
        } else {
            ControlFlow::Continue(())
        }
    });
    ended(end, answer)
}

/// An index or count: an integer, or nothing.
pub(in crate::fhirpath) fn place<'a>(
    expr: &'a Expr,
    focus: &Focus<'a, '_>,
    what: &'static str,
) -> Result<Option<i64>, Fault> {
    match single(expr, focus, what)?.map(|item| item.value()) {
        None => Ok(None),
        Some(Some(Value::Integer(value))) => Ok(Some(value.value())),
        Some(_) => Err(Fault::Argument(what)),
    }
}

/// `.last()`
pub(in crate::fhirpath) fn last<'a>(
    base: &'a Expr,
    focus: &Focus<'a, '_>,
) -> Result<Option<Item<'a>>, Fault> {
    let mut last = None;
    for_each(base, focus, |item| {
        last = Some(item);
        Ok(())
    })?;
    Ok(last)
}

/// `.intersect(other)`: items of both, each once.
pub(in crate::fhirpath) fn intersect<'a>(
    base: &'a Expr,
    other: &'a Expr,
    focus: &Focus<'a, '_>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let other = flow(all(other, focus))?;
    let mut seen = Vec::new();
    stream(base, focus, &mut |item| {
        if flow(is_among(&item, other.as_slice(), focus))? && flow(keep_new(&mut seen, &item, focus))? {
            return receive(item);
        }
        ControlFlow::Continue(())
    })
}

/// `.exclude(other)`: items that the other collection does not have, duplicates and all.
pub(in crate::fhirpath) fn exclude<'a>(
    base: &'a Expr,
    other: &'a Expr,
    focus: &Focus<'a, '_>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let other = flow(all(other, focus))?;
    stream(base, focus, &mut |item| {
        if flow(is_among(&item, other.as_slice(), focus))? {
            return ControlFlow::Continue(());
        }
        receive(item)
    })
}
