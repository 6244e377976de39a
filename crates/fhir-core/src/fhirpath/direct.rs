//! Straight paths that need no walk: where every element on the way was read just once, its place in the projection tells where it is.
//!
//! Most columns are such paths in most resources (`status`, `subject.reference`, `code.coding.first().code` with one coding). What is not so
//! in a resource at hand is walked.

use super::{
    error::Fault,
    path,
    straight::{Step, Straight},
    value::{Element, Item, Value},
};
use crate::{
    fhirpath::model::Type,
    json::{Kind, Node, Only, Place, Projection},
};

/// A path of plain steps from one place of a projection to another.
#[derive(Debug)]
pub(super) struct Direct {
    way: Vec<On>,
    /// Where something would be an item too: an element that has the bare name of a choice.
    absent: Vec<Place>,
    end: End,
}

/// A place on the way.
#[derive(Debug)]
struct On {
    place: Place,
    /// `first()`: it must be a single item.
    single: bool,
}

#[derive(Debug)]
enum End {
    Elements(Type),
    ResourceKey(Type),
    ReferenceKey(Option<String>),
}

/// What became of a look.
pub(super) enum Look {
    /// The items have been passed on.
    Done(Result<(), Fault>),
    /// The path has to be walked.
    Walk,
}

impl Direct {
    /// The path from a place on, if it is plain.
    pub(super) fn of(path: &Straight, from: Place, names: &Projection) -> Option<Self> {
        let (mut at, mut way, mut absent, mut end) = (from, Vec::new(), Vec::new(), None);
        for step in &path.steps {
            let property = match step {
                Step::Member(property) => *property,
                Step::Choice { keys, name, .. } => {
                    let [property] = keys.as_slice() else { return None };
                    absent.push(names.place(at, *name)?);
                    *property
                }
                Step::First => {
                    // A key is a single item already.
                    if !matches!(end, Some(End::ResourceKey(_) | End::ReferenceKey(_))) {
                        way.last_mut().map(|on: &mut On| on.single = true)?;
                    }
                    continue;
                }
                Step::ResourceKey { id } if at == Projection::ROOT => {
                    end = Some(End::ResourceKey(id.of));
                    way.push(On::at(names.place(at, id.name)?));
                    continue;
                }
                Step::ReferenceKey { reference, of_type } => {
                    end = Some(End::ReferenceKey(of_type.clone()));
                    way.push(On::at(names.place(at, reference.name)?));
                    continue;
                }
                Step::ResourceKey { .. } | Step::Extension { .. } | Step::Where(_) => return None,
            };
            at = names.place(at, property.name)?;
            way.push(On::at(at));
            end = Some(End::Elements(property.of));
        }
        Some(Self {
            way,
            absent,
            end: end?,
        })
    }

    /// Runs `each` for every item, if they can be told without a walk.
    pub(super) fn for_each<'a>(
        &'a self,
        from: Element<'a>,
        each: impl FnMut(Item<'a>) -> Result<(), Fault>,
    ) -> Look {
        let Some(from) = from.node else { return Look::Walk };
        if self
            .absent
            .iter()
            .any(|place| !matches!(from.only(*place), Only::None))
        {
            return Look::Walk;
        }
        let mut last = None;
        for on in &self.way {
            match from.only(on.place) {
                Only::None => return Look::Done(Ok(())),
                Only::One(node) if !on.single || node.is_single() => last = Some(node),
                Only::One(_) | Only::Several => return Look::Walk,
            }
        }
        match last {
            Some(node) if from.holds(node) => Look::Done(self.pass_on(node, each)),
            _ => Look::Done(Ok(())),
        }
    }

    fn pass_on<'a>(
        &'a self,
        node: Node<'a>,
        mut each: impl FnMut(Item<'a>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let element = |node, of| {
            Item::Element(Element {
                node: Some(node),
                extra: None,
                of: Some(of),
            })
        };
        match &self.end {
            End::Elements(of) => node
                .items()
                .filter(|node| node.kind() != Kind::Null)
                .try_for_each(|node| each(element(node, *of))),
            End::ResourceKey(of) if node.kind() == Kind::String => each(element(node, *of)),
            End::ResourceKey(_) => Ok(()),
            End::ReferenceKey(of_type) => {
                let key = node.as_str().and_then(|r| path::key_of(r, of_type.as_deref()));
                key.map_or(Ok(()), |key| each(Item::Value(Value::Text(key.into()))))
            }
        }
    }
}

impl On {
    fn at(place: Place) -> Self {
        Self { place, single: false }
    }
}
