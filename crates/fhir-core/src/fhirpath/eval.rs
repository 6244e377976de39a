//! Operators over a focus: items are pushed to a receiver, which can stop them.

use std::{borrow::Cow, cell::Cell, ops::ControlFlow};

use super::{
    ast::Literal,
    error::Fault,
    expr::Expr,
    operators, path,
    value::{Element, Item, Value},
};
use crate::json::Node;

/// Why no more items come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The receiver has what it wants.
    Done,
    /// It failed.
    Fault(Fault),
}

/// Whether more items are wanted.
pub type Flow = ControlFlow<Stop>;

/// Takes the items of an expression, one by one.
pub type Receiver<'r, 'a> = &'r mut dyn FnMut(Item<'a>) -> Flow;

/// What all expressions of one resource share.
#[derive(Debug)]
pub struct Resource<'a> {
    /// The resource.
    pub root: Node<'a>,
    /// Operators that may still run: criteria within criteria over long arrays are bounded by it.
    steps: Cell<u64>,
}

/// Operators that run for one resource and view at most; a resource of 1 MB with a rich view takes some hundred thousand.
pub const MAX_STEPS: u64 = 200_000_000;

impl<'a> Resource<'a> {
    /// A resource that nothing was evaluated on.
    pub fn new(root: Node<'a>) -> Self {
        Self {
            root,
            steps: Cell::new(MAX_STEPS),
        }
    }

    fn step(&self) -> Result<(), Fault> {
        let left = self.steps.get().checked_sub(1).ok_or(Fault::Steps(MAX_STEPS))?;
        self.steps.set(left);
        Ok(())
    }
}

/// What an expression is evaluated on.
#[derive(Debug, Clone)]
pub struct Focus<'a, 'r> {
    /// `$this`
    pub this: Item<'a>,
    /// `$index`
    pub index: i64,
    /// `%context`
    pub context: Element<'a>,
    /// `%rowIndex`
    pub row_index: i64,
    /// The resource that it is of.
    pub resource: &'r Resource<'a>,
}

impl<'a, 'r> Focus<'a, 'r> {
    /// The focus that a whole expression begins with.
    pub fn on(element: Element<'a>, row_index: i64, resource: &'r Resource<'a>) -> Self {
        Self {
            this: Item::Element(element),
            index: 0,
            context: element,
            row_index,
            resource,
        }
    }

    fn at(&self, this: Item<'a>, index: i64) -> Self {
        Self {
            this,
            index,
            context: self.context,
            row_index: self.row_index,
            resource: self.resource,
        }
    }
}

/// One item, none, or several.
#[derive(Debug, Clone)]
pub enum Few<'a> {
    /// Empty.
    None,
    /// A single item.
    One(Item<'a>),
    /// All of several.
    Many(Vec<Item<'a>>),
}

impl<'a> Few<'a> {
    /// All items, as a slice.
    pub fn as_slice(&self) -> &[Item<'a>] {
        match self {
            Few::None => &[],
            Few::One(item) => std::slice::from_ref(item),
            Few::Many(items) => items,
        }
    }
}

fn fault<T>(fault: Fault) -> ControlFlow<Stop, T> {
    ControlFlow::Break(Stop::Fault(fault))
}

/// A computation's result as a flow, so that `?` passes a fault on.
fn flow<T>(result: Result<T, Fault>) -> ControlFlow<Stop, T> {
    match result {
        Ok(value) => ControlFlow::Continue(value),
        Err(error) => fault(error),
    }
}

/// Runs `each` for every item.
pub fn for_each<'a>(
    expr: &'a Expr,
    focus: &Focus<'a, '_>,
    mut each: impl FnMut(Item<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    match stream(expr, focus, &mut |item| flow(each(item))) {
        ControlFlow::Break(Stop::Fault(error)) => Err(error),
        ControlFlow::Break(Stop::Done) | ControlFlow::Continue(()) => Ok(()),
    }
}

/// All items.
pub fn all<'a>(expr: &'a Expr, focus: &Focus<'a, '_>) -> Result<Few<'a>, Fault> {
    let mut items = Few::None;
    for_each(expr, focus, |item| {
        items = match std::mem::replace(&mut items, Few::None) {
            Few::None => Few::One(item),
            Few::One(first) => Few::Many(vec![first, item]),
            Few::Many(mut items) => {
                items.push(item);
                Few::Many(items)
            }
        };
        Ok(())
    })?;
    Ok(items)
}

/// The first item.
pub fn first<'a>(expr: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<Item<'a>>, Fault> {
    let mut first = None;
    let end = stream(expr, focus, &mut |item| {
        first = Some(item);
        ControlFlow::Break(Stop::Done)
    });
    match end {
        ControlFlow::Break(Stop::Fault(error)) => Err(error),
        _ => Ok(first),
    }
}

/// The only item; a fault in `what` if there are several.
pub fn single<'a>(
    expr: &'a Expr,
    focus: &Focus<'a, '_>,
    what: &'static str,
) -> Result<Option<Item<'a>>, Fault> {
    let mut single = None;
    for_each(expr, focus, |item| {
        if single.is_some() {
            return Err(Fault::Several(what));
        }
        single = Some(item);
        Ok(())
    })?;
    Ok(single)
}

/// A condition by three-valued logic: `None` is empty. A single item that is no boolean counts as true (FHIRPath, section 4.5).
pub fn truth<'a>(expr: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<bool>, Fault> {
    focus.resource.step()?;
    match expr {
        Expr::And(operands) => {
            let mut all = Some(true);
            for operand in operands {
                match truth(operand, focus)? {
                    Some(false) => return Ok(Some(false)),
                    Some(true) => {}
                    None => all = None,
                }
            }
            Ok(all)
        }
        Expr::Or(operands) => {
            let mut any = Some(false);
            for operand in operands {
                match truth(operand, focus)? {
                    Some(true) => return Ok(Some(true)),
                    Some(false) => {}
                    None => any = None,
                }
            }
            Ok(any)
        }
        Expr::Xor(a, b) => Ok(truth(a, focus)?.zip(truth(b, focus)?).map(|(a, b)| a != b)),
        Expr::Implies(a, b) => Ok(match truth(a, focus)? {
            Some(false) => Some(true),
            Some(true) => truth(b, focus)?,
            None => truth(b, focus)?.filter(|b| *b),
        }),
        Expr::Not(operand) => Ok(truth(operand, focus)?.map(|value| !value)),
        Expr::Exists(operand) => Ok(Some(first(operand, focus)?.is_some())),
        Expr::IsEmpty(operand) => Ok(Some(first(operand, focus)?.is_none())),
        Expr::Equal(a, b, positive) => {
            let equal = operators::equal(&all(a, focus)?, &all(b, focus)?);
            Ok(equal.map(|equal| equal == *positive))
        }
        Expr::Compare(op, a, b) => {
            let symbol = op.symbol();
            match (single(a, focus, symbol)?, single(b, focus, symbol)?) {
                (Some(a), Some(b)) => operators::compare(*op, &a, &b),
                _ => Ok(None),
            }
        }
        Expr::In(item, collection) => match single(item, focus, "in")? {
            None => Ok(None),
            Some(item) => {
                let mut found = false;
                for_each(collection, focus, |other| {
                    found |= operators::same(&item, &other) == Some(true);
                    Ok(())
                })?;
                Ok(Some(found))
            }
        },
        Expr::All(operand, criteria) => {
            let mut index = 0;
            let mut all = true;
            for_each(operand, focus, |item| {
                all = all && truth(criteria, &focus.at(item, index))? == Some(true);
                index += 1;
                Ok(())
            })?;
            Ok(Some(all))
        }
        Expr::Is(operand, test) => {
            Ok(single(operand, focus, "is")?.map(|item| path::is_of_type(&item, test)))
        }
        Expr::HasValue(operand) => Ok(Some(
            single(operand, focus, "hasValue()")?.is_some_and(|item| item.value().is_some()),
        )),
        Expr::Literal(Literal::Boolean(value)) => Ok(Some(*value)),
        other => Ok(single(other, focus, "a condition")?.map(|item| item.boolean().unwrap_or(true))),
    }
}

/// Whether an operator yields a boolean that [`truth`] computes.
fn is_condition(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::And(_)
            | Expr::Or(_)
            | Expr::Xor(..)
            | Expr::Implies(..)
            | Expr::Not(_)
            | Expr::Exists(_)
            | Expr::IsEmpty(_)
            | Expr::Equal(..)
            | Expr::Compare(..)
            | Expr::In(..)
            | Expr::All(..)
            | Expr::Is(..)
            | Expr::HasValue(_)
    )
}

/// Pushes the expression's items to `receive`, until it stops them.
#[expect(clippy::too_many_lines, reason = "one arm an operator")]
pub fn stream<'a>(expr: &'a Expr, focus: &Focus<'a, '_>, receive: Receiver<'_, 'a>) -> Flow {
    flow(focus.resource.step())?;
    if is_condition(expr) {
        return match flow(truth(expr, focus))? {
            Some(value) => receive(Item::Value(Value::Boolean(value))),
            None => ControlFlow::Continue(()),
        };
    }
    match expr {
        Expr::Literal(value) => receive(Item::Value(literal(value))),
        Expr::Empty => ControlFlow::Continue(()),
        Expr::This => receive(focus.this.clone()),
        Expr::Index => receive(Item::Value(Value::Integer(focus.index))),
        Expr::Resource => receive(Item::Element(Element::of(focus.resource.root))),
        Expr::Context => receive(Item::Element(focus.context)),
        Expr::RowIndex => receive(Item::Value(Value::Integer(focus.row_index))),
        Expr::Root(name) => path::root(&focus.this, name, receive),
        Expr::Member(base, member) => stream(base, focus, &mut |item| path::member(&item, member, receive)),
        Expr::Choice(base, member, keys, test) => stream(base, focus, &mut |item| {
            path::choice(&item, member, keys, test, receive)
        }),
        Expr::OfType(base, test) => stream(base, focus, &mut |item| {
            if path::is_of_type(&item, test) {
                receive(item)
            } else {
                ControlFlow::Continue(())
            }
        }),
        Expr::As(base, test) => match flow(single(base, focus, "as"))? {
            Some(item) if path::is_of_type(&item, test) => receive(item),
            _ => ControlFlow::Continue(()),
        },
        Expr::Item(base, index) => {
            let Some(index) = flow(place(index, focus, "[]"))? else {
                return ControlFlow::Continue(());
            };
            pass_at(base, focus, index, receive)
        }
        Expr::First(base) => pass_at(base, focus, 0, receive),
        Expr::Last(base) => {
            let mut last = None;
            flow(for_each(base, focus, |item| {
                last = Some(item);
                Ok(())
            }))?;
            last.map_or(ControlFlow::Continue(()), receive)
        }
        Expr::Skip(base, count) => {
            let Some(count) = flow(place(count, focus, "skip()"))? else {
                return ControlFlow::Continue(());
            };
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
        Expr::Take(base, count) => {
            let Some(count) = flow(place(count, focus, "take()"))? else {
                return ControlFlow::Continue(());
            };
            take(base, focus, count, receive)
        }
        Expr::Single(base) => {
            flow(single(base, focus, "single()"))?.map_or(ControlFlow::Continue(()), receive)
        }
        Expr::Where(base, criteria) => {
            let mut index = -1;
            stream(base, focus, &mut |item| {
                index += 1;
                match flow(truth(criteria, &focus.at(item.clone(), index)))? {
                    Some(true) => receive(item),
                    _ => ControlFlow::Continue(()),
                }
            })
        }
        Expr::Select(base, projection) => {
            let mut index = -1;
            stream(base, focus, &mut |item| {
                index += 1;
                stream(projection, &focus.at(item, index), receive)
            })
        }
        Expr::Count(base) => {
            let mut count = 0;
            flow(for_each(base, focus, |_| {
                count += 1;
                Ok(())
            }))?;
            receive(Item::Value(Value::Integer(count)))
        }
        Expr::Extension(base, url) => {
            let Some(url) = flow(single(url, focus, "extension()"))?.and_then(|u| u.text()) else {
                return ControlFlow::Continue(());
            };
            stream(base, focus, &mut |item| path::extension(&item, &url, receive))
        }
        Expr::Join(base, separator) => match flow(join(base, separator.as_deref(), focus))? {
            Some(text) => receive(Item::Value(Value::Text(text))),
            None => ControlFlow::Continue(()),
        },
        Expr::ResourceKey(base) => stream(base, focus, &mut |item| path::resource_key(&item, receive)),
        Expr::ReferenceKey(base, of_type) => stream(base, focus, &mut |item| {
            path::reference_key(&item, of_type.as_deref(), receive)
        }),
        Expr::If(criterion, then, otherwise) => match flow(truth(criterion, focus))? {
            Some(true) => stream(then, focus, receive),
            _ => stream(otherwise, focus, receive),
        },
        Expr::Arithmetic(op, a, b) => {
            let symbol = op.symbol();
            let operands = flow(single(a, focus, symbol))?.zip(flow(single(b, focus, symbol))?);
            let Some((a, b)) = operands else {
                return ControlFlow::Continue(());
            };
            match flow(operators::arithmetic(*op, &a, &b))? {
                Some(value) => receive(Item::Value(value)),
                None => ControlFlow::Continue(()),
            }
        }
        Expr::Negate(operand) => {
            let Some(item) = flow(single(operand, focus, "-"))? else {
                return ControlFlow::Continue(());
            };
            match flow(operators::negate(&item))? {
                Some(value) => receive(Item::Value(value)),
                None => ControlFlow::Continue(()),
            }
        }
        Expr::Union(operands) => {
            let mut seen: Vec<Item<'a>> = Vec::new();
            for operand in operands {
                stream(operand, focus, &mut |item| {
                    for other in &seen {
                        flow(focus.resource.step())?;
                        if operators::same(other, &item) == Some(true) {
                            return ControlFlow::Continue(());
                        }
                    }
                    seen.push(item.clone());
                    receive(item)
                })?;
            }
            ControlFlow::Continue(())
        }
        // Every other operator is a condition.
        _ => ControlFlow::Continue(()),
    }
}

/// The value that a literal states.
pub fn literal(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Boolean(value) => Value::Boolean(*value),
        Literal::Integer(value) => Value::Integer(*value),
        Literal::Decimal(value) => Value::Decimal(*value),
        Literal::Text(text) => Value::Text(Cow::Borrowed(text)),
        Literal::Temporal(value, text) => Value::Temporal(*value, text),
    }
}

/// Passes on the item at a place of the whole collection, and stops what is below there.
fn pass_at<'a>(base: &'a Expr, focus: &Focus<'a, '_>, index: i64, receive: Receiver<'_, 'a>) -> Flow {
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
    match end {
        ControlFlow::Break(Stop::Fault(error)) => fault(error),
        _ => answer,
    }
}

fn take<'a>(base: &'a Expr, focus: &Focus<'a, '_>, count: i64, receive: Receiver<'_, 'a>) -> Flow {
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
    match end {
        ControlFlow::Break(Stop::Fault(error)) => fault(error),
        _ => answer,
    }
}

/// An index or count: an integer, or nothing.
fn place<'a>(expr: &'a Expr, focus: &Focus<'a, '_>, what: &'static str) -> Result<Option<i64>, Fault> {
    match single(expr, focus, what)?.map(|item| item.value()) {
        None => Ok(None),
        Some(Some(Value::Integer(value))) => Ok(Some(value)),
        Some(_) => Err(Fault::Argument(what)),
    }
}

/// All strings joined; nothing of nothing.
fn join<'a>(
    base: &'a Expr,
    separator: Option<&'a Expr>,
    focus: &Focus<'a, '_>,
) -> Result<Option<Cow<'a, str>>, Fault> {
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
        joined = Some(match joined.take() {
            None => text,
            Some(mut before) => {
                let all = before.to_mut();
                all.push_str(&separator);
                all.push_str(&text);
                before
            }
        });
        Ok(())
    })?;
    Ok(joined)
}
