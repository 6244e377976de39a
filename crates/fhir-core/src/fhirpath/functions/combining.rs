//! Collections put together and taken apart (FHIRPath N1, sections 5.4 and 5.6): `union combine join split toChars`.

use std::{borrow::Cow, ops::ControlFlow};

use super::{Compiling, bounded, existence::keep_new};
use crate::fhirpath::{
    compile::Typed,
    error::{Fault, PathError},
    eval::{Flow, Focus, Receiver, flow, for_each, single, stream},
    expr::Expr,
    model::{Types, system},
    value::{Item, Value},
};

pub(super) fn compile(call: &Compiling<'_>) -> Option<Result<Typed, PathError>> {
    build(call, call.args.len()).transpose()
}

fn build(call: &Compiling<'_>, arguments: usize) -> Result<Option<Typed>, PathError> {
    let text = |expr| Ok(Some(Typed::new(expr, Types::one(system::STRING))));
    let on = || Ok::<_, PathError>(Box::new(call.on()?.expr));
    let other = || Ok::<_, PathError>(Box::new(call.argument(0)?.expr));
    match (call.name, arguments) {
        ("union" | "combine", 1) => {
            let (on, other) = (call.on()?, call.argument(0)?);
            let types = on.types.or(&other.types);
            let expr = if call.name == "union" {
                Expr::Union(vec![on.expr, other.expr])
            } else {
                Expr::Combine(Box::new(on.expr), Box::new(other.expr))
            };
            Ok(Some(Typed::new(expr, types)))
        }
        ("union" | "combine", _) => Err(call.wrong("one argument, a collection")),
        ("join", 0) => text(Expr::Join(on()?, None)),
        ("join", 1) => text(Expr::Join(on()?, Some(other()?))),
        ("join", _) => Err(call.wrong("at most one argument, the separator")),
        ("split", 1) => text(Expr::Split(on()?, Some(other()?))),
        ("split", _) => Err(call.wrong("one argument, the separator")),
        ("toChars", 0) => text(Expr::Split(on()?, None)),
        ("toChars", _) => Err(call.wrong("no argument")),
        _ => Ok(None),
    }
}

/// `|`, `.union(other)`: each item once.
pub(in crate::fhirpath) fn union<'a>(
    operands: &'a [Expr],
    focus: &Focus<'a, '_>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let mut seen: Vec<Item<'a>> = Vec::new();
    for operand in operands {
        stream(operand, focus, &mut |item| {
            if flow(keep_new(&mut seen, &item, focus))? {
                return receive(item);
            }
            ControlFlow::Continue(())
        })?;
    }
    ControlFlow::Continue(())
}

/// All strings joined; nothing of nothing.
pub(in crate::fhirpath) fn join<'a>(
    base: &'a Expr,
    separator: Option<&'a Expr>,
    focus: &Focus<'a, '_>,
) -> Result<Option<Item<'a>>, Fault> {
    let separator = match separator {
        Some(expr) => match single(expr, focus, "join()")?.map(|item| item.text()) {
            Some(Some(text)) => text,
            Some(None) => return Err(Fault::Argument("join()")),
            None => Cow::Borrowed(""),
        },
        None => Cow::Borrowed(""),
    };
    let mut joined: Option<Cow<'a, str>> = None;
    for_each(base, focus, |item| {
        if item
            .element()
            .is_some_and(|e| e.value().is_none() && e.node.is_none())
        {
            return Ok(());
        }
        let text = item.text().ok_or(Fault::Argument("join()"))?;
        focus.resource.build(text.len() + separator.len())?;
        joined = Some(match joined.take() {
            None => text,
            Some(mut before) => {
                bounded(before.len() + separator.len() + text.len())?;
                let all = before.to_mut();
                all.push_str(&separator);
                all.push_str(&text);
                before
            }
        });
        Ok(())
    })?;
    Ok(joined.map(|text| Item::Value(Value::Text(text))))
}

/// `.split(separator)`; without one (`.toChars()`), or with an empty one, each character.
pub(in crate::fhirpath) fn split<'a>(
    base: &'a Expr,
    separator: Option<&'a Expr>,
    focus: &Focus<'a, '_>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let name = if separator.is_some() {
        "split()"
    } else {
        "toChars()"
    };
    let text = |expr: &'a Expr| match flow(single(expr, focus, name))? {
        None => ControlFlow::Continue(None),
        Some(item) => match item.text() {
            None if item.value().is_some() || item.is_complex() => flow(Err(Fault::Argument(name))),
            text => ControlFlow::Continue(text),
        },
    };
    let Some(subject) = text(base)? else {
        return ControlFlow::Continue(());
    };
    let separator = match separator {
        None => Cow::Borrowed(""),
        Some(expr) => match text(expr)? {
            Some(separator) => separator,
            None => return ControlFlow::Continue(()),
        },
    };
    flow(focus.resource.build(subject.len()))?;
    let mut push = |start: usize, end: usize| {
        flow(focus.resource.step())?;
        receive(Item::Value(Value::Text(match &subject {
            Cow::Borrowed(text) => Cow::Borrowed(&text[start..end]),
            Cow::Owned(text) => Cow::Owned(text[start..end].to_owned()),
        })))
    };
    if separator.is_empty() {
        return subject
            .char_indices()
            .try_for_each(|(at, char)| push(at, at + char.len_utf8()));
    }
    let mut start = 0;
    for (at, _) in subject.match_indices(&*separator) {
        push(start, at)?;
        start = at + separator.len();
    }
    push(start, subject.len())
}

/// `&`: an empty operand is an empty string.
pub(in crate::fhirpath) fn concatenate<'a>(
    a: &'a Expr,
    b: &'a Expr,
    focus: &Focus<'a, '_>,
) -> Result<Option<Item<'a>>, Fault> {
    let text = |expr: &'a Expr| match single(expr, focus, "&")? {
        None => Ok(Cow::Borrowed("")),
        Some(item) => match item.text() {
            None if item.value().is_some() || item.is_complex() => Err(Fault::Operands("&")),
            text => Ok(text.unwrap_or_default()),
        },
    };
    let (mut a, b) = (text(a)?, text(b)?);
    bounded(a.len() + b.len())?;
    focus.resource.build(a.len() + b.len())?;
    if !b.is_empty() {
        a.to_mut().push_str(&b);
    }
    Ok(Some(Item::Value(Value::Text(a))))
}
