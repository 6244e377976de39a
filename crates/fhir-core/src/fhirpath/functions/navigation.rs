//! Walks over the tree of elements (FHIRPath N1, section 5.8): `children descendants`.

use std::{collections::VecDeque, ops::ControlFlow};

use super::{Compiling, filtering::within};
use crate::fhirpath::{
    compile::Typed,
    error::PathError,
    eval::{Flow, Focus, Receiver, flow, stream},
    expr::Expr,
    model::Types,
    path,
};

pub(super) fn compile(call: &Compiling<'_>) -> Option<Result<Typed, PathError>> {
    let make: fn(Box<Expr>) -> Expr = match call.name {
        "children" => Expr::Children,
        "descendants" => Expr::Descendants,
        _ => return None,
    };
    if !call.args.is_empty() {
        return Some(Err(call.wrong("no argument")));
    }
    Some(
        call.on()
            .map(|on| Typed::new(make(Box::new(on.expr)), Types::UNKNOWN)),
    )
}

/// `.descendants()`: level by level, without recursion; the elements that wait are at most those of the resource.
pub(in crate::fhirpath) fn descendants<'a>(
    base: &'a Expr,
    focus: &Focus<'a, '_>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let mut waiting = VecDeque::new();
    stream(base, focus, &mut |item| {
        waiting.push_back(item);
        within(waiting.len())
    })?;
    while let Some(item) = waiting.pop_front() {
        path::children(&item, focus.resource, &mut |child| {
            flow(focus.resource.step())?;
            waiting.push_back(child.clone());
            within(waiting.len())?;
            receive(child)
        })?;
    }
    ControlFlow::Continue(())
}
