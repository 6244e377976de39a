//! The operators that pass items on.

use std::{borrow::Cow, ops::ControlFlow};

use super::{Few, Flow, Focus, Receiver, flow, single, single::computed, truth};
use crate::fhirpath::{
    ast::Literal,
    expr::Expr,
    functions, path,
    value::{Element, Item, Value},
};
use crate::number::Integer;

/// Pushes the expression's items to `receive`, until it stops them. Each operator has its own function, which keeps the frames small of
/// those that are on the stack together.
pub(crate) fn stream<'a>(expr: &'a Expr, focus: &Focus<'a, '_>, receive: Receiver<'_, 'a>) -> Flow {
    flow(focus.resource.step())?;
    match expr {
        Expr::Literal(value) => receive(Item::Value(literal(value))),
        Expr::This => match &focus.this {
            Some(this) => {
                flow(focus.resource.copied(this))?;
                receive(this.clone())
            }
            None => ControlFlow::Continue(()),
        },
        Expr::Index => receive(Item::Value(Value::Integer(Integer::of(focus.index)))),
        Expr::RowIndex => receive(Item::Value(Value::Integer(Integer::of(focus.row_index)))),
        Expr::Resource => receive(Item::Element(Element::of(focus.resource.root))),
        Expr::Context => receive(Item::Element(focus.context)),
        Expr::Root(name) => match &focus.this {
            Some(this) => path::root(this, name, focus.resource, receive),
            None => ControlFlow::Continue(()),
        },
        Expr::Empty => ControlFlow::Continue(()),
        Expr::Member(base, member) => stream(base, focus, &mut |item| {
            path::member(&item, member, focus.resource, receive)
        }),
        Expr::Choice(base, member, keys, test) => stream(base, focus, &mut |item| {
            path::choice(&item, member, keys, test, focus.resource, receive)
        }),
        Expr::OfType(base, test) => stream(base, focus, &mut |item| {
            flow(focus.resource.step())?;
            focus.resource.read(&item);
            if path::is_of_type(&item, test) {
                receive(item)
            } else {
                ControlFlow::Continue(())
            }
        }),
        Expr::ResourceKey(base) => stream(base, focus, &mut |item| {
            path::resource_key(&item, focus.resource, receive)
        }),
        Expr::ReferenceKey(base, of_type) => stream(base, focus, &mut |item| {
            path::reference_key(&item, of_type.as_deref(), focus.resource, receive)
        }),
        Expr::Where(base, criteria) => functions::filter(base, criteria, focus, receive),
        Expr::Select(base, projection) => functions::project(base, projection, focus, receive),
        Expr::First(base) => functions::pass_at(base, focus, 0, receive),
        Expr::Item(base, index) => match flow(functions::place(index, focus, "[]"))? {
            Some(index) => functions::pass_at(base, focus, index, receive),
            None => ControlFlow::Continue(()),
        },
        Expr::Extension(base, url) => functions::extension(base, url, focus, receive),
        Expr::If(criterion, then, otherwise) => match flow(truth(criterion, focus))? {
            Some(true) => stream(then, focus, receive),
            _ => stream(otherwise, focus, receive),
        },
        Expr::Union(operands) => functions::union(operands, focus, receive),
        other => less_common(other, focus, receive),
    }
}

/// The rest of the operators that pass on several items; apart, so that the common ones have small frames.
fn less_common<'a>(expr: &'a Expr, focus: &Focus<'a, '_>, receive: Receiver<'_, 'a>) -> Flow {
    match expr {
        Expr::Skip(base, count) => match flow(functions::place(count, focus, "skip()"))? {
            Some(count) => functions::skip(base, focus, count, receive),
            None => ControlFlow::Continue(()),
        },
        Expr::Take(base, count) => match flow(functions::place(count, focus, "take()"))? {
            Some(count) => functions::take(base, focus, count, receive),
            None => ControlFlow::Continue(()),
        },
        Expr::On(base, inner) => {
            let this = flow(single(base, focus, "iif()"))?;
            stream(inner, &focus.on_single(this), receive)
        }
        Expr::Combine(a, b) => {
            stream(a, focus, receive)?;
            stream(b, focus, receive)
        }
        Expr::Distinct(base) => functions::distinct(base, focus, receive),
        Expr::Intersect(a, b) => functions::intersect(a, b, focus, receive),
        Expr::Exclude(a, b) => functions::exclude(a, b, focus, receive),
        Expr::Split(base, separator) => functions::split(base, separator.as_deref(), focus, receive),
        Expr::Children(base) => stream(base, focus, &mut |item| {
            path::children(&item, focus.resource, receive)
        }),
        Expr::Descendants(base) => functions::descendants(base, focus, receive),
        Expr::Repeat(base, projection) => functions::repeat(base, projection, focus, receive),
        Expr::Aggregate(base, step, start) => {
            functions::aggregate(base, step, start.as_deref(), focus, receive)
        }
        Expr::Total => focus
            .total
            .into_iter()
            .flat_map(Few::as_slice)
            .try_for_each(|item| {
                flow(focus.resource.step())?;
                flow(focus.resource.copied(item))?;
                receive(item.clone())
            }),
        _ => match flow(computed(expr, focus))? {
            Some(item) => receive(item),
            None => ControlFlow::Continue(()),
        },
    }
}

/// The value that a literal states.
pub(super) fn literal(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Boolean(value) => Value::Boolean(*value),
        Literal::Integer(value) => Value::Integer((*value).into()),
        Literal::Integer64(value) => Value::Integer(Integer::long(*value)),
        Literal::Decimal(value) => Value::Decimal(*value),
        Literal::Text(text) => Value::Text(Cow::Borrowed(text)),
        Literal::Temporal(value, text) => Value::Temporal(*value, Cow::Borrowed(text)),
        Literal::Quantity(quantity) => Value::Quantity(Box::new(quantity.clone())),
    }
}
