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

    pub(super) fn step(&self) -> Result<(), Fault> {
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
    /// Adds an item at the end.
    pub fn push(&mut self, item: Item<'a>) {
        *self = match std::mem::replace(self, Few::None) {
            Few::None => Few::One(item),
            Few::One(first) => Few::Many(vec![first, item]),
            Few::Many(mut items) => {
                items.push(item);
                Few::Many(items)
            }
        };
    }

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
        items.push(item);
        Ok(())
    })?;
    Ok(items)
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
            Some(item) => among(&item, collection, focus).map(Some),
            None => Ok(None),
        },
        Expr::All(operand, criteria) => every(operand, criteria, focus).map(Some),
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

fn among<'a>(item: &Item<'a>, collection: &'a Expr, focus: &Focus<'a, '_>) -> Result<bool, Fault> {
    let mut found = false;
    for_each(collection, focus, |other| {
        found |= operators::same(item, &other) == Some(true);
        Ok(())
    })?;
    Ok(found)
}

fn every<'a>(operand: &'a Expr, criteria: &'a Expr, focus: &Focus<'a, '_>) -> Result<bool, Fault> {
    let mut index = -1;
    let mut all = true;
    for_each(operand, focus, |item| {
        index += 1;
        all = all && truth(criteria, &focus.at(item, index))? == Some(true);
        Ok(())
    })?;
    Ok(all)
}

/// Whether there is an item.
fn any<'a>(expr: &'a Expr, focus: &Focus<'a, '_>) -> Result<bool, Fault> {
    match stream(expr, focus, &mut |_| ControlFlow::Break(Stop::Done)) {
        ControlFlow::Break(Stop::Fault(error)) => Err(error),
        ControlFlow::Break(Stop::Done) => Ok(true),
        ControlFlow::Continue(()) => Ok(false),
    }
}

/// Pushes the expression's items to `receive`, until it stops them. Each operator has its own function, which keeps the frames small of
/// those that are on the stack together.
pub fn stream<'a>(expr: &'a Expr, focus: &Focus<'a, '_>, receive: Receiver<'_, 'a>) -> Flow {
    flow(focus.resource.step())?;
    match expr {
        Expr::Literal(value) => receive(Item::Value(literal(value))),
        Expr::This => receive(focus.this.clone()),
        Expr::Index => receive(Item::Value(Value::Integer(focus.index))),
        Expr::RowIndex => receive(Item::Value(Value::Integer(focus.row_index))),
        Expr::Resource => receive(Item::Element(Element::of(focus.resource.root))),
        Expr::Context => receive(Item::Element(focus.context)),
        Expr::Root(name) => path::root(&focus.this, name, receive),
        Expr::Empty => ControlFlow::Continue(()),
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
        Expr::ResourceKey(base) => stream(base, focus, &mut |item| path::resource_key(&item, receive)),
        Expr::ReferenceKey(base, of_type) => stream(base, focus, &mut |item| {
            path::reference_key(&item, of_type.as_deref(), receive)
        }),
        Expr::Where(base, criteria) => filter(base, criteria, focus, receive),
        Expr::Select(base, projection) => project(base, projection, focus, receive),
        Expr::First(base) => pass_at(base, focus, 0, receive),
        Expr::Item(base, index) => match flow(place(index, focus, "[]"))? {
            Some(index) => pass_at(base, focus, index, receive),
            None => ControlFlow::Continue(()),
        },
        Expr::Skip(base, count) => match flow(place(count, focus, "skip()"))? {
            Some(count) => skip(base, focus, count, receive),
            None => ControlFlow::Continue(()),
        },
        Expr::Take(base, count) => match flow(place(count, focus, "take()"))? {
            Some(count) => take(base, focus, count, receive),
            None => ControlFlow::Continue(()),
        },
        Expr::Extension(base, url) => extension(base, url, focus, receive),
        Expr::If(criterion, then, otherwise) => match flow(truth(criterion, focus))? {
            Some(true) => stream(then, focus, receive),
            _ => stream(otherwise, focus, receive),
        },
        Expr::Union(operands) => union(operands, focus, receive),
        _ => match flow(computed(expr, focus))? {
            Some(item) => receive(item),
            None => ControlFlow::Continue(()),
        },
    }
}

/// The operators that yield one item or none: computed first, and passed on with nothing of them on the stack.
fn computed<'a>(expr: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<Item<'a>>, Fault> {
    match expr {
        Expr::As(base, test) => Ok(single(base, focus, "as")?.filter(|item| path::is_of_type(item, test))),
        Expr::Single(base) => single(base, focus, "single()"),
        Expr::Last(base) => last(base, focus),
        Expr::Count(base) => count(base, focus),
        Expr::Join(base, separator) => {
            Ok(join(base, separator.as_deref(), focus)?.map(|text| Item::Value(Value::Text(text))))
        }
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
        condition => Ok(truth(condition, focus)?.map(|value| Item::Value(Value::Boolean(value)))),
    }
}

fn filter<'a>(base: &'a Expr, criteria: &'a Expr, focus: &Focus<'a, '_>, receive: Receiver<'_, 'a>) -> Flow {
    let mut index = -1;
    stream(base, focus, &mut |item| {
        index += 1;
        match flow(truth(criteria, &focus.at(item.clone(), index)))? {
            Some(true) => receive(item),
            _ => ControlFlow::Continue(()),
        }
    })
}

fn project<'a>(
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

fn skip<'a>(base: &'a Expr, focus: &Focus<'a, '_>, count: i64, receive: Receiver<'_, 'a>) -> Flow {
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

fn extension<'a>(base: &'a Expr, url: &'a Expr, focus: &Focus<'a, '_>, receive: Receiver<'_, 'a>) -> Flow {
    let Some(url) = flow(single(url, focus, "extension()"))?.and_then(|u| u.text()) else {
        return ControlFlow::Continue(());
    };
    stream(base, focus, &mut |item| path::extension(&item, &url, receive))
}

fn union<'a>(operands: &'a [Expr], focus: &Focus<'a, '_>, receive: Receiver<'_, 'a>) -> Flow {
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

fn last<'a>(base: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<Item<'a>>, Fault> {
    let mut last = None;
    for_each(base, focus, |item| {
        last = Some(item);
        Ok(())
    })?;
    Ok(last)
}

fn count<'a>(base: &'a Expr, focus: &Focus<'a, '_>) -> Result<Option<Item<'a>>, Fault> {
    let mut count = 0;
    for_each(base, focus, |_| {
        count += 1;
        Ok(())
    })?;
    Ok(Some(Item::Value(Value::Integer(count))))
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
