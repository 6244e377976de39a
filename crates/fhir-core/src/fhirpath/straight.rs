//! Paths as most columns have them (`code.coding.where(system = 'x').first().code`), as a list of steps that is walked without anything in
//! between.
//!
//! What is not of this kind is evaluated by [`eval`](super::eval), which a straight path never differs from; both look elements up by
//! the steps of `path.rs`. Names are symbols of the [`Projection`] that the resource was read with.

use std::{ops::ControlFlow, sync::Arc};

use super::{
    ast::Literal,
    direct::{Direct, Look},
    error::Fault,
    eval::{Flow, Receiver, Resource, Stop},
    expr::{Expr, Key},
    model::{Class, Type, system},
    path,
    temporal::Temporal,
    types::TypeTest,
    value::{Element, Item, Value},
};
use crate::json::{Kind, Node, Only, Place, Projection, Symbol};

/// A straight path from an element on.
#[derive(Debug)]
pub(crate) struct Straight {
    pub(super) steps: Vec<Step>,
    /// The same without a walk, where elements at one place alone are what it is evaluated on.
    direct: Option<Direct>,
}

/// A criterion over straight paths: true, or not.
#[derive(Debug)]
pub(crate) enum Condition {
    /// `and`
    All(Vec<Condition>),
    /// `or`
    Any(Vec<Condition>),
    /// `path.exists()`
    Exists(Straight),
    /// `path = 'text'`
    Equal {
        path: Straight,
        text: Arc<str>,
        /// Where the path leads, if it is a member that is read at a place of its own.
        at: Option<Place>,
    },
}

#[derive(Debug)]
pub(super) enum Step {
    Member(Property),
    /// A choice by its full names, or the element of the very name.
    Choice {
        keys: Vec<Property>,
        name: Symbol,
        test: TypeTest,
    },
    Extension {
        name: Symbol,
        key: Symbol,
        url: Arc<str>,
        of: Type,
    },
    /// What comes so far is enough.
    First,
    Where(Condition),
    ResourceKey {
        id: Property,
    },
    ReferenceKey {
        reference: Property,
        of_type: Option<String>,
    },
}

/// A property by its full name, and the type of its values.
#[derive(Debug, Clone, Copy)]
pub(super) struct Property {
    pub(super) name: Symbol,
    pub(super) of: Type,
}

/// The path as steps, if it is straight; what is wanted of it and of all others is in the projection already. `from` is the place of what
/// it is evaluated on, if that is a single one.
pub(crate) fn path(expr: &Expr, from: Option<Place>, names: &mut Projection) -> Option<Straight> {
    let mut way = Way {
        names,
        steps: Vec::new(),
        at: from,
    };
    way.add(expr)?;
    let Way { names, steps, .. } = way;
    let direct = from.and_then(|from| Direct::of(&steps, from, names));
    Some(Straight { steps, direct })
}

/// The criterion as one over straight paths, if it is that.
pub(crate) fn condition(expr: &Expr, from: Option<Place>, names: &mut Projection) -> Option<Condition> {
    let mut each = |operands: &[Expr]| {
        operands
            .iter()
            .map(|o| condition(o, from, names))
            .collect::<Option<Vec<_>>>()
    };
    Some(match expr {
        Expr::And(operands) => Condition::All(each(operands)?),
        Expr::Or(operands) => Condition::Any(each(operands)?),
        Expr::Exists(inner) => Condition::Exists(path(inner, from, names)?),
        Expr::Equal(a, b, true) => match (&**a, &**b) {
            (inner, Expr::Literal(Literal::Text(text))) | (Expr::Literal(Literal::Text(text)), inner)
                if Temporal::parse(text).is_none() =>
            {
                let path = path(inner, from, names).filter(Straight::is_text)?;
                Condition::Equal {
                    at: path.direct.as_ref().and_then(Direct::member),
                    path,
                    text: text.clone(),
                }
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// The steps of a path in the making.
struct Way<'n> {
    names: &'n mut Projection,
    steps: Vec<Step>,
    /// Where the items lie that the steps so far lead to, if that is a single place.
    at: Option<Place>,
}

impl Way<'_> {
    /// The steps to what the next one begins with; a key has no elements.
    fn from(&mut self, base: &Expr) -> Option<()> {
        self.add(base)?;
        let key = matches!(
            self.steps.last(),
            Some(Step::ResourceKey { .. } | Step::ReferenceKey { .. })
        );
        (!key).then_some(())
    }

    /// None for a name that no member has: what stands beside a primitive is read under the primitive's.
    fn property(&mut self, key: &Key) -> Option<Property> {
        if key.name.starts_with('_') {
            return None;
        }
        Some(Property {
            name: self.names.symbol(&key.name),
            of: key.of,
        })
    }

    fn add(&mut self, expr: &Expr) -> Option<()> {
        let step = match expr {
            Expr::This => return Some(()),
            Expr::Member(base, member) => {
                let ([key], false) = (member.keys.as_slice(), member.choice) else {
                    return None;
                };
                self.from(base)?;
                let property = self.property(key)?;
                self.at = self.at.and_then(|at| self.names.place(at, property.name));
                Step::Member(property)
            }
            Expr::Choice(base, member, keys, test) => {
                self.from(base)?;
                let properties = keys.iter().map(|key| self.property(key)).collect::<Option<_>>()?;
                // It can be the element of the very name as well, which lies elsewhere.
                self.at = None;
                Step::Choice {
                    keys: properties,
                    name: self.names.symbol(&member.name),
                    test: test.clone(),
                }
            }
            Expr::Extension(base, url) => {
                let Expr::Literal(Literal::Text(url)) = &**url else {
                    return None;
                };
                self.from(base)?;
                self.at = None;
                Step::Extension {
                    name: self.names.symbol("extension"),
                    key: self.names.symbol("url"),
                    url: url.clone(),
                    of: Type::extension()?,
                }
            }
            Expr::First(base) => {
                self.add(base)?;
                Step::First
            }
            Expr::Item(base, index) if **index == Expr::Literal(Literal::Integer(0)) => {
                self.add(base)?;
                Step::First
            }
            Expr::Where(base, criteria) => {
                self.from(base)?;
                Step::Where(condition(criteria, self.at, self.names)?)
            }
            Expr::ResourceKey(base) => {
                self.from(base)?;
                let (name, of) = (self.names.symbol("id"), Type::id()?);
                Step::ResourceKey {
                    id: Property { name, of },
                }
            }
            Expr::ReferenceKey(base, of_type) => {
                self.from(base)?;
                let (name, of) = (self.names.symbol("reference"), system::STRING);
                Step::ReferenceKey {
                    reference: Property { name, of },
                    of_type: of_type.clone(),
                }
            }
            _ => return None,
        };
        self.steps.push(step);
        Some(())
    }
}

impl Straight {
    /// Whether the items are strings by their type.
    fn is_text(&self) -> bool {
        match self.steps.last() {
            Some(Step::Member(property)) => property.of.class() == Class::Text,
            _ => false,
        }
    }

    /// What the path leads to, where that can be told at once.
    pub(crate) fn look<'a>(&'a self, from: Element<'a>, resource: &Resource<'a>) -> Result<Look<'a>, Fault> {
        let Some(direct) = &self.direct else {
            return Ok(Look::Walk);
        };
        resource.step()?;
        direct.look(&self.steps, from, resource)
    }

    /// Runs `each` for every item.
    pub(crate) fn for_each<'a>(
        &'a self,
        from: Element<'a>,
        resource: &Resource<'a>,
        mut each: impl FnMut(Item<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if let Some(items) = self.look(from, resource)?.items(resource) {
            return items.into_iter().try_for_each(each);
        }
        let mut receive = |item| match each(item) {
            Ok(()) => ControlFlow::Continue(()),
            Err(fault) => ControlFlow::Break(Stop::Fault(fault)),
        };
        match walk(&self.steps, from, resource, &mut receive) {
            ControlFlow::Break(Stop::Fault(fault)) => Err(fault),
            ControlFlow::Break(Stop::Done) | ControlFlow::Continue(()) => Ok(()),
        }
    }

    fn any<'a>(&'a self, of: Element<'a>, resource: &Resource<'a>) -> Result<bool, Fault> {
        match self.look(of, resource)? {
            Look::Nothing => return Ok(false),
            Look::Value(node, _) if node.is_primitive() || node.kind() == Kind::Object => return Ok(true),
            look => {
                if let Some(mut items) = look.items(resource) {
                    return Ok(items.next().is_some());
                }
            }
        }
        let mut any = false;
        let end = walk(&self.steps, of, resource, &mut |_| {
            any = true;
            ControlFlow::Break(Stop::Done)
        });
        match end {
            ControlFlow::Break(Stop::Fault(fault)) => Err(fault),
            _ => Ok(any),
        }
    }
}

impl Condition {
    /// Whether it is true of an element; empty is not.
    pub(crate) fn holds<'a>(&'a self, of: Element<'a>, resource: &Resource<'a>) -> Result<bool, Fault> {
        match self {
            Condition::All(conditions) => {
                for condition in conditions {
                    if !condition.holds(of, resource)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Condition::Any(conditions) => {
                for condition in conditions {
                    if condition.holds(of, resource)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Condition::Exists(path) => path.any(of, resource),
            Condition::Equal { path, text, at } => {
                if let (Some(at), Some(node), None) = (at, of.node, of.extra)
                    && let Only::One(found) = node.only(*at)
                    && found.is_primitive()
                {
                    resource.step()?;
                    resource.spend_bytes(text.len());
                    return Ok(found.is_text(text) && node.holds(found));
                }
                match path.look(of, resource)? {
                    Look::Nothing => return Ok(false),
                    Look::Value(node, _) if node.is_primitive() => {
                        resource.spend_bytes(text.len());
                        return Ok(node.is_text(text));
                    }
                    _ => {}
                }
                // Two items are no text, whatever they are.
                let (mut count, mut equal) = (0, false);
                path.for_each(of, resource, |item| {
                    count += 1;
                    let node = item.element().and_then(|e| e.node);
                    equal = node.is_some_and(|n| {
                        n.kind() == Kind::String && path::same_text(n.text(), text, resource)
                    });
                    Ok(())
                })?;
                Ok(count == 1 && equal)
            }
        }
    }
}

fn walk<'a>(steps: &'a [Step], at: Element<'a>, resource: &Resource<'a>, receive: Receiver<'_, 'a>) -> Flow {
    let Some((step, rest)) = steps.split_first() else {
        return receive(Item::Element(at));
    };
    if let Err(fault) = resource.step() {
        return ControlFlow::Break(Stop::Fault(fault));
    }
    match step {
        Step::Member(property) => {
            let Some(object) = at.object() else {
                return ControlFlow::Continue(());
            };
            resource.look_through(object);
            let (value, beside) = object.find(property.name);
            onward(value, beside, property.of, rest, resource, receive)
        }
        Step::Choice { keys, name, test } => {
            let Some(object) = at.object() else {
                return ControlFlow::Continue(());
            };
            for property in keys {
                resource.look_through(object);
                let (value, beside) = object.find(property.name);
                if value.is_some() || beside.is_some() {
                    return onward(value, beside, property.of, rest, resource, receive);
                }
            }
            let (value, beside) = object.find(*name);
            path::elements(value, beside, None, resource, |element| {
                if path::is_of_type(&Item::Element(element), test) {
                    walk(rest, element, resource, receive)
                } else {
                    ControlFlow::Continue(())
                }
            })
        }
        Step::Extension { name, key, url, of } => {
            let Some(object) = at.object() else {
                return ControlFlow::Continue(());
            };
            resource.look_through(object);
            let extensions = object.find(*name).0;
            for node in extensions.into_iter().flat_map(Node::items) {
                resource.spend(1);
                resource.look_through(node);
                let found = node.find(*key).0.and_then(Node::as_str);
                if found.is_some_and(|found| path::same_text(found, url, resource)) {
                    let extension = Element {
                        node: Some(node),
                        extra: None,
                        of: Some(*of),
                    };
                    walk(rest, extension, resource, receive)?;
                }
            }
            ControlFlow::Continue(())
        }
        Step::First => {
            walk(rest, at, resource, receive)?;
            ControlFlow::Break(Stop::Done)
        }
        Step::Where(condition) => match condition.holds(at, resource) {
            Ok(true) => walk(rest, at, resource, receive),
            Ok(false) => ControlFlow::Continue(()),
            Err(fault) => ControlFlow::Break(Stop::Fault(fault)),
        },
        Step::ResourceKey { .. } => {
            path::resource_key(&Item::Element(at), resource, &mut |key| last(key, rest, receive))
        }
        Step::ReferenceKey { reference, of_type } => {
            let reference = at.object().and_then(|object| {
                resource.look_through(object);
                object.find(reference.name).0
            });
            match reference
                .and_then(Node::as_str)
                .and_then(|r| path::key_of(r, of_type.as_deref(), resource))
            {
                Some(key) => last(Item::Value(Value::Text(key.into())), rest, receive),
                None => ControlFlow::Continue(()),
            }
        }
    }
}

/// Passes on a key, after which only `first()` can come.
fn last<'a>(key: Item<'a>, rest: &[Step], receive: Receiver<'_, 'a>) -> Flow {
    receive(key)?;
    if rest.is_empty() {
        ControlFlow::Continue(())
    } else {
        ControlFlow::Break(Stop::Done)
    }
}

/// Goes on with each item of a property.
fn onward<'a>(
    value: Option<Node<'a>>,
    beside: Option<Node<'a>>,
    of: Type,
    rest: &'a [Step],
    resource: &Resource<'a>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    path::elements(value, beside, Some(of), resource, |element| {
        walk(rest, element, resource, receive)
    })
}
