//! Operators over a focus: items are pushed to a receiver, which can stop them.

mod logic;
mod resource;
mod single;
mod stream;

use std::ops::ControlFlow;

use super::{
    error::Fault,
    expr::Expr,
    value::{Element, Item},
};

pub(crate) use logic::truth;
pub(crate) use resource::Resource;
pub(crate) use stream::stream;

/// Why no more items come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The receiver has what it wants.
    Done,
    /// It failed.
    Fault(Fault),
}

/// Whether more items are wanted.
pub(crate) type Flow = ControlFlow<Stop>;

/// Takes the items of an expression, one by one.
pub(crate) type Receiver<'r, 'a> = &'r mut dyn FnMut(Item<'a>) -> Flow;

/// Items of one collection that is kept; a larger one only passes through.
pub(crate) const MAX_ITEMS: usize = 1_000_000;

/// What an expression is evaluated on.
#[derive(Debug, Clone)]
pub(crate) struct Focus<'a, 'r> {
    /// `$this`; none where `iif` is called on nothing.
    pub this: Option<Item<'a>>,
    /// `$index`
    pub index: i64,
    /// `%context`
    pub context: Element<'a>,
    /// `%rowIndex`
    pub row_index: i64,
    /// `$total`, within `aggregate`
    pub total: Option<&'r Few<'a>>,
    /// The resource that it is of.
    pub resource: &'r Resource<'a>,
}

impl<'a, 'r> Focus<'a, 'r> {
    /// The focus that a whole expression begins with.
    pub(crate) fn on(element: Element<'a>, row_index: i64, resource: &'r Resource<'a>) -> Self {
        Self {
            this: Some(Item::Element(element)),
            index: 0,
            context: element,
            row_index,
            total: None,
            resource,
        }
    }

    /// The same, on a single item or nothing.
    fn on_single(&self, this: Option<Item<'a>>) -> Self {
        Self { this, ..self.clone() }
    }

    /// The same, on another item.
    pub(super) fn at(&self, this: Item<'a>, index: i64) -> Self {
        Self {
            this: Some(this),
            index,
            context: self.context,
            row_index: self.row_index,
            total: self.total,
            resource: self.resource,
        }
    }
}

/// One item, none, or several.
#[derive(Debug, Clone)]
pub(crate) enum Few<'a> {
    /// Empty.
    None,
    /// A single item.
    One(Item<'a>),
    /// All of several.
    Many(Vec<Item<'a>>),
}

impl<'a> Few<'a> {
    /// Adds an item at the end.
    pub(crate) fn push(&mut self, item: Item<'a>) -> Result<(), Fault> {
        *self = match std::mem::replace(self, Few::None) {
            Few::None => Few::One(item),
            Few::One(first) => Few::Many(vec![first, item]),
            Few::Many(items) if items.len() == MAX_ITEMS => return Err(Fault::TooMany(MAX_ITEMS)),
            Few::Many(mut items) => {
                items.push(item);
                Few::Many(items)
            }
        };
        Ok(())
    }

    /// Adds an item, which counts unless it is the only one.
    pub(crate) fn keep(&mut self, item: Item<'a>, resource: &Resource<'a>) -> Result<(), Fault> {
        if !matches!(self, Few::None) {
            resource.keep()?;
        }
        self.push(item)
    }

    /// All items, as a slice.
    pub(crate) fn as_slice(&self) -> &[Item<'a>] {
        match self {
            Few::None => &[],
            Few::One(item) => std::slice::from_ref(item),
            Few::Many(items) => items,
        }
    }
}

pub(super) fn fault<T>(fault: Fault) -> ControlFlow<Stop, T> {
    ControlFlow::Break(Stop::Fault(fault))
}

/// A computation's result as a flow, so that `?` passes a fault on.
pub(super) fn flow<T>(result: Result<T, Fault>) -> ControlFlow<Stop, T> {
    match result {
        Ok(value) => ControlFlow::Continue(value),
        Err(error) => fault(error),
    }
}

/// Runs `each` for every item, each of which counts.
pub(crate) fn for_each<'a>(
    expr: &'a Expr,
    focus: &Focus<'a, '_>,
    mut each: impl FnMut(Item<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut counted = |item| {
        focus.resource.step()?;
        each(item)
    };
    match stream(expr, focus, &mut |item| flow(counted(item))) {
        ControlFlow::Break(Stop::Fault(error)) => Err(error),
        ControlFlow::Break(Stop::Done) | ControlFlow::Continue(()) => Ok(()),
    }
}

/// All items.
pub(crate) fn all<'a>(expr: &'a Expr, focus: &Focus<'a, '_>) -> Result<Few<'a>, Fault> {
    let mut items = Few::None;
    for_each(expr, focus, |item| items.keep(item, focus.resource))?;
    Ok(items)
}

/// The only item; a fault in `what` if there are several.
pub(crate) fn single<'a>(
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
