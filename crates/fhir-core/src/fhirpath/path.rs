//! Steps of a path over untyped JSON: elements, choices, types, extensions, keys.

use std::ops::ControlFlow;

use super::{
    eval::{Flow, Receiver},
    expr::Member,
    temporal::Temporal,
    types::{Class, TypeTest, is_suffix},
    value::{Element, Item, Value},
};
use crate::json::{Kind, Node};

/// A path's first word, capitalised: the focus, if it is of that type.
pub(super) fn root<'a>(this: &Item<'a>, name: &str, receive: Receiver<'_, 'a>) -> Flow {
    let is = this
        .element()
        .and_then(|e| e.resource_type())
        .is_some_and(|found| {
            found == name
                || matches!(name, "Resource")
                || (name == "DomainResource" && is_domain_resource(found))
        });
    if is {
        receive(this.clone())
    } else {
        ControlFlow::Continue(())
    }
}

fn is_domain_resource(name: &str) -> bool {
    !matches!(name, "Bundle" | "Binary" | "Parameters")
}

/// `.name`: the items of the element.
pub(super) fn member<'a>(item: &Item<'a>, member: &Member, receive: Receiver<'_, 'a>) -> Flow {
    let Some(object) = item.element().and_then(|e| e.object()) else {
        return ControlFlow::Continue(());
    };
    let (value, extra) = object.property(&member.name);
    if value.is_some() || extra.is_some() {
        return elements(value, extra, None, |e| receive(Item::Element(e)));
    }
    if !member.choice {
        return ControlFlow::Continue(());
    }
    for (key, _) in object.members() {
        let key = key.strip_prefix('_').unwrap_or(key);
        if let Some(suffix) = key
            .strip_prefix(member.name.as_str())
            .filter(|s| is_suffix(&member.name, s))
        {
            let (value, extra) = object.property(key);
            // The types of a choice exclude each other, so the first one is all.
            return elements(value, extra, Some(suffix), |e| receive(Item::Element(e)));
        }
    }
    ControlFlow::Continue(())
}

/// `.name.ofType(T)`: by the choice's full name; or the element of that very name, if it is of the type.
pub(super) fn choice<'a>(
    item: &Item<'a>,
    member: &Member,
    keys: &'a [String],
    test: &'a TypeTest,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let Some(object) = item.element().and_then(|e| e.object()) else {
        return ControlFlow::Continue(());
    };
    for (key, suffix) in keys.iter().zip(&test.suffixes) {
        let (value, extra) = object.property(key);
        if value.is_some() || extra.is_some() {
            return elements(value, extra, Some(suffix), |e| receive(Item::Element(e)));
        }
    }
    let (value, extra) = object.property(&member.name);
    elements(value, extra, None, |element| {
        let item = Item::Element(element);
        if is_of_type(&item, test) {
            receive(item)
        } else {
            ControlFlow::Continue(())
        }
    })
}

/// Pushes the items of a property; an item is what has a value, or something beside it.
pub(super) fn elements<'a>(
    value: Option<Node<'a>>,
    extra: Option<Node<'a>>,
    suffix: Option<&'a str>,
    mut receive: impl FnMut(Element<'a>) -> Flow,
) -> Flow {
    let present = |node: &Node<'a>| node.kind() != Kind::Null;
    let Some(extra) = extra else {
        for node in value.into_iter().flat_map(Node::items).filter(present) {
            receive(Element {
                node: Some(node),
                extra: None,
                suffix,
            })?;
        }
        return ControlFlow::Continue(());
    };
    let mut values = value.map(Node::items);
    let mut extras = extra.items();
    loop {
        let (node, extra) = (values.as_mut().and_then(Iterator::next), extras.next());
        if node.is_none() && extra.is_none() {
            return ControlFlow::Continue(());
        }
        let node = node.filter(present);
        let extra = extra.filter(|e| e.kind() == Kind::Object);
        if node.is_some() || extra.is_some() {
            receive(Element { node, extra, suffix })?;
        }
    }
}

/// Whether an item is of the type, as far as property names and JSON values tell.
pub(super) fn is_of_type(item: &Item<'_>, test: &TypeTest) -> bool {
    let element = match item {
        Item::Value(value) => {
            return match (value, test.class) {
                (Value::Boolean(_), Class::Boolean)
                | (Value::Integer(_), Class::Integer)
                | (Value::Decimal(_) | Value::Huge(_), Class::Decimal)
                | (Value::Text(_), Class::Text) => true,
                (Value::Temporal(t, _), Class::Date) => !t.is_time(),
                (Value::Temporal(t, _), Class::Time) => t.is_time(),
                _ => false,
            };
        }
        Item::Element(element) => element,
    };
    if let Some(suffix) = element.suffix {
        return test.suffixes.iter().any(|s| s == suffix);
    }
    let Some(node) = element.node else {
        return !matches!(test.class, Class::Complex | Class::Resource);
    };
    match node.kind() {
        Kind::Null | Kind::Array => false,
        Kind::True | Kind::False => test.class == Class::Boolean,
        Kind::Number => match test.class {
            Class::Decimal => true,
            Class::Integer => !node.text().contains(['.', 'e', 'E']),
            _ => false,
        },
        Kind::String => match test.class {
            Class::Text => true,
            // An integer64 is a string in JSON.
            Class::Integer => test.name == "integer64",
            Class::Date => Temporal::date(node.text()).is_some(),
            Class::Time => Temporal::time(node.text()).is_some(),
            _ => false,
        },
        Kind::Object => match element.resource_type() {
            Some(found) => {
                found == test.name
                    || test.name == "Resource"
                    || (test.name == "DomainResource" && is_domain_resource(found))
            }
            None => test.class == Class::Complex,
        },
    }
}

/// `.extension(url)`
pub(super) fn extension<'a>(item: &Item<'a>, url: &str, receive: Receiver<'_, 'a>) -> Flow {
    let extensions = item
        .element()
        .and_then(|e| e.object())
        .and_then(|o| o.member("extension"));
    for node in extensions.into_iter().flat_map(Node::items) {
        if node.member("url").and_then(Node::as_str) == Some(url) {
            receive(Item::Element(Element::of(node)))?;
        }
    }
    ControlFlow::Continue(())
}

/// `.getResourceKey()`: the id of a resource; nothing of anything else.
pub(super) fn resource_key<'a>(item: &Item<'a>, receive: Receiver<'_, 'a>) -> Flow {
    let key = item
        .element()
        .filter(|e| e.resource_type().is_some())
        .and_then(|e| e.object())
        .and_then(|o| o.member("id"))
        .filter(|id| id.kind() == Kind::String);
    match key {
        Some(id) => receive(Item::Element(Element {
            node: Some(id),
            extra: None,
            suffix: Some("Id"),
        })),
        None => ControlFlow::Continue(()),
    }
}

/// `.getReferenceKey(Type)`: the id that a literal reference ends with, if it is of the type.
pub(super) fn reference_key<'a>(item: &Item<'a>, of_type: Option<&str>, receive: Receiver<'_, 'a>) -> Flow {
    let reference = item
        .element()
        .and_then(|e| e.object())
        .and_then(|o| o.member("reference"))
        .and_then(Node::as_str);
    match reference.and_then(split_reference) {
        Some((found, id)) if of_type.is_none_or(|of_type| of_type == found || of_type == "Resource") => {
            receive(Item::Value(Value::Text(id.into())))
        }
        _ => ControlFlow::Continue(()),
    }
}

/// Type and id of `[base/]Type/id[/_history/version]`. A contained (`#a`), logical, conditional or `urn:` reference has none.
fn split_reference(reference: &str) -> Option<(&str, &str)> {
    let reference = reference
        .find("/_history/")
        .map_or(reference, |end| &reference[..end]);
    let (before, id) = reference.rsplit_once('/')?;
    let found = before.rsplit_once('/').map_or(before, |(_, found)| found);
    let is_id = !id.is_empty()
        && id.len() <= 64
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'));
    let is_type =
        found.starts_with(|c: char| c.is_ascii_uppercase()) && found.bytes().all(|b| b.is_ascii_alphabetic());
    (is_id && is_type).then_some((found, id))
}
