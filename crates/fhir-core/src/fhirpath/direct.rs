//! Straight paths that need no walk: where every element on the way was read just once, its place in the projection tells where it is.
//!
//! Most columns are such paths in most resources (`status`, `subject.reference`, `code.coding.first().code` with one coding). What is not so
//! in a resource at hand is walked.

use super::{
    error::Fault,
    eval::Resource,
    path,
    straight::Step,
    value::{Element, Item, Value},
};
use crate::{
    fhirpath::model::Type,
    json::{Items, Kind, Node, Only, Place, Projection},
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
    /// `first()`, `where()`: it must be a single item.
    single: bool,
    /// The `where`s, by their numbers among the steps, and the type of the element that they are of.
    criteria: Vec<(usize, Type)>,
}

#[derive(Debug)]
enum End {
    Elements(Type),
    ResourceKey(Type),
    ReferenceKey(Option<String>),
}

/// What a path leads to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Look<'a> {
    /// To no item.
    Nothing,
    /// To the items of a value, which are of that type.
    Value(Node<'a>, Type),
    /// To a key of that text, which holds nothing but letters, digits, `-`, `.` and `_`.
    Key(&'a str),
    /// The path has to be walked.
    Walk,
}

impl Direct {
    /// The path from a place on, if it is plain.
    pub(super) fn of(steps: &[Step], from: Place, names: &Projection) -> Option<Self> {
        let (mut at, mut way, mut absent, mut end) = (from, Vec::<On>::new(), Vec::new(), None);
        for (number, step) in steps.iter().enumerate() {
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
                        way.last_mut()?.single = true;
                    }
                    continue;
                }
                Step::Where(_) => {
                    let (on, Some(End::Elements(of))) = (way.last_mut()?, &end) else {
                        return None;
                    };
                    on.single = true;
                    on.criteria.push((number, *of));
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
                Step::ResourceKey { .. } | Step::Extension { .. } => return None,
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

    /// The place, if there is one step to it and no condition on the way.
    pub(super) fn member(&self) -> Option<Place> {
        let ([on], [], End::Elements(_)) = (self.way.as_slice(), self.absent.as_slice(), &self.end) else {
            return None;
        };
        (!on.single).then_some(on.place)
    }

    /// Looks; `steps` are those that it was made of.
    pub(super) fn look<'a>(
        &'a self,
        steps: &'a [Step],
        from: Element<'a>,
        resource: &Resource<'a>,
    ) -> Result<Look<'a>, Fault> {
        // What stands beside a primitive is elsewhere.
        let Element {
            node: Some(from),
            extra: None,
            ..
        } = from
        else {
            return Ok(Look::Walk);
        };
        for place in &self.absent {
            if !matches!(from.only(*place), Only::None) {
                return Ok(Look::Walk);
            }
        }
        let mut last = None;
        for on in &self.way {
            match from.only(on.place) {
                Only::None => return Ok(Look::Nothing),
                Only::One(node) if !on.single || node.is_single() => {
                    if !on.criteria.is_empty() && !on.holds(steps, node, resource)? {
                        return Ok(Look::Nothing);
                    }
                    last = Some(node);
                }
                Only::One(_) | Only::Several => return Ok(Look::Walk),
            }
        }
        let Some(node) = last.filter(|node| from.holds(*node)) else {
            return Ok(Look::Nothing);
        };
        Ok(match &self.end {
            End::Elements(of) => Look::Value(node, *of),
            End::ResourceKey(of) if node.kind() == Kind::String => Look::Value(node, *of),
            End::ResourceKey(_) => Look::Nothing,
            End::ReferenceKey(of_type) => node
                .as_str()
                .and_then(|reference| path::key_of(reference, of_type.as_deref(), resource))
                .map_or(Look::Nothing, Look::Key),
        })
    }
}

impl On {
    fn at(place: Place) -> Self {
        Self {
            place,
            single: false,
            criteria: Vec::new(),
        }
    }

    /// Whether the criteria hold for the single item here; nothing is none.
    fn holds<'a>(
        &'a self,
        steps: &'a [Step],
        node: Node<'a>,
        resource: &Resource<'a>,
    ) -> Result<bool, Fault> {
        let Some(node) = node.items().next().filter(|node| node.kind() != Kind::Null) else {
            return Ok(false);
        };
        for (number, of) in &self.criteria {
            let Some(Step::Where(criterion)) = steps.get(*number) else {
                return Ok(false);
            };
            if !criterion.holds(Element::alone(node, *of), resource)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<'a> Look<'a> {
    /// The items, unless the path has to be walked.
    pub(super) fn items<'r>(self, resource: &'r Resource<'a>) -> Option<Found<'a, 'r>> {
        Some(match self {
            Look::Nothing => Found::Key(None),
            Look::Value(node, of) => Found::Elements(node.items(), of, resource),
            Look::Key(key) => Found::Key(Some(key)),
            Look::Walk => return None,
        })
    }
}

/// The items that a path leads to.
pub(super) enum Found<'a, 'r> {
    Elements(Items<'a>, Type, &'r Resource<'a>),
    Key(Option<&'a str>),
}

impl<'a> Iterator for Found<'a, '_> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        match self {
            Found::Elements(nodes, of, resource) => {
                let node = nodes.find(|node| {
                    resource.spend(1);
                    node.kind() != Kind::Null
                })?;
                Some(Item::Element(Element::alone(node, *of)))
            }
            Found::Key(key) => key.take().map(|key| Item::Value(Value::Text(key.into()))),
        }
    }
}
