//! Steps of a path over JSON: elements, choices, types, extensions, keys.
//!
//! Where the type of what a path stands on is known, the names and types of its properties were looked up when it was compiled. Where it is
//! not, the element's own type tells them, and where that is not known either, the property's name.

use std::{borrow::Cow, collections::HashMap, ops::ControlFlow};

use super::{
    eval::{Flow, Receiver, Resource, flow},
    expr::{Key, Member},
    model::{Class, Namespace, Type, system},
    quantity::Quantity,
    temporal::Temporal,
    types::{TypeTest, of_suffix},
    value::{Element, Item, Value},
};
use crate::{
    json::{Kind, Node},
    resource::is_type,
};

/// A path's first word, capitalised: the focus, if it is of that type.
pub(super) fn root<'a>(
    this: &Item<'a>,
    name: &str,
    resource: &Resource<'a>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    resource.read(this);
    let is = this.element().is_some_and(|e| {
        e.resource_type() == Some(name)
            || e.type_of()
                .zip(Type::fhir(name))
                .is_some_and(|(of, root)| of.is(root))
            || (e.resource_type().is_some() && name == "Resource")
    });
    if is {
        receive(this.clone())
    } else {
        ControlFlow::Continue(())
    }
}

/// `.name`: the items of the element.
pub(super) fn member<'a>(
    item: &Item<'a>,
    member: &Member,
    resource: &Resource<'a>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let element = match item {
        Item::Element(element) => element,
        Item::Value(Value::Type(of)) => return reflection(*of, member, receive),
        Item::Value(Value::Quantity(quantity)) => return part(quantity, member, receive),
        Item::Value(_) => return ControlFlow::Continue(()),
    };
    let Some(object) = element.object() else {
        return ControlFlow::Continue(());
    };
    resource.look_through(object);
    if let ([key], false) = (member.keys.as_slice(), member.choice) {
        let (value, extra) = object.property(&key.name);
        return elements(value, extra, Some(key.of), resource, |element| {
            receive(Item::Element(element))
        });
    }
    let mut choice = member.choice;
    if member.keys.is_empty() {
        let known = element.type_of().and_then(|of| of.element(&member.name));
        if let Some(known) = known.filter(|known| !known.choice) {
            let (value, extra) = object.property(&member.name);
            let of = known.types.first().copied();
            return elements(value, extra, of, resource, |element| {
                receive(Item::Element(element))
            });
        }
        choice |= known.is_some();
    }
    if choice {
        return of_choice(object, member, resource, receive);
    }
    let (value, extra) = object.property(&member.name);
    elements(value, extra, None, resource, |element| {
        receive(Item::Element(element))
    })
}

/// The property of a choice: one that the definition names, else the one of the very name, else one that ends in the name of a type.
fn of_choice<'a>(
    object: Node<'a>,
    member: &Member,
    resource: &Resource<'a>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let mut found = None;
    for (key, _) in object.members() {
        let key = key.strip_prefix('_').unwrap_or(key);
        let Some(suffix) = key.strip_prefix(member.name.as_str()) else {
            continue;
        };
        let of = if suffix.is_empty() {
            None
        } else if let Some(key) = member.keys.iter().find(|k| k.name == key) {
            Some(key.of)
        } else {
            match of_suffix(&member.name, suffix) {
                Some(of) if found.is_none() && member.keys.is_empty() => Some(of),
                Some(of) => {
                    found.get_or_insert((key, Some(of)));
                    continue;
                }
                None => continue,
            }
        };
        // The types of a choice exclude each other, so the first one is all.
        found = Some((key, of));
        break;
    }
    let Some((key, of)) = found else {
        return ControlFlow::Continue(());
    };
    let (value, extra) = object.property(key);
    elements(value, extra, of, resource, |element| {
        receive(Item::Element(element))
    })
}

/// `(4 'mg').value`, `(4 'mg').unit`: what FHIRPath's own Quantity has.
fn part(quantity: &Quantity, member: &Member, receive: Receiver<'_, '_>) -> Flow {
    match member.name.as_str() {
        "value" => receive(Item::Value(Value::Decimal(quantity.value))),
        "unit" => receive(Item::Value(Value::Text(Cow::Owned(quantity.unit.written())))),
        _ => ControlFlow::Continue(()),
    }
}

/// `type().name`, `type().namespace`
fn reflection(of: Type, member: &Member, receive: Receiver<'_, '_>) -> Flow {
    let text = match (member.name.as_str(), of.namespace()) {
        ("name", _) => of.name(),
        ("namespace", Namespace::Fhir) => "FHIR",
        ("namespace", Namespace::System) => "System",
        _ => return ControlFlow::Continue(()),
    };
    receive(Item::Value(Value::Text(text.into())))
}

/// `.name.ofType(T)`: by the choice's full name; or the element of that very name, if it is of the type.
pub(super) fn choice<'a>(
    item: &Item<'a>,
    member: &Member,
    keys: &[Key],
    test: &TypeTest,
    resource: &Resource<'a>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    if let Item::Value(_) = item {
        return self::member(item, member, resource, &mut |item| {
            if is_of_type(&item, test) {
                receive(item)
            } else {
                ControlFlow::Continue(())
            }
        });
    }
    let Some(object) = item.element().and_then(|e| e.object()) else {
        return ControlFlow::Continue(());
    };
    for key in keys {
        resource.look_through(object);
        let (value, extra) = object.property(&key.name);
        if value.is_some() || extra.is_some() {
            return elements(value, extra, Some(key.of), resource, |element| {
                receive(Item::Element(element))
            });
        }
    }
    let (value, extra) = object.property(&member.name);
    elements(value, extra, None, resource, |element| {
        let item = Item::Element(element);
        if is_of_type(&item, test) {
            receive(item)
        } else {
            ControlFlow::Continue(())
        }
    })
}

/// Pushes the items of a property; an item is what has a value, or something beside it. Those of a list count.
pub(super) fn elements<'a>(
    value: Option<Node<'a>>,
    extra: Option<Node<'a>>,
    of: Option<Type>,
    resource: &Resource<'a>,
    mut receive: impl FnMut(Element<'a>) -> Flow,
) -> Flow {
    let present = |node: &Node<'a>| node.kind() != Kind::Null;
    let Some(extra) = extra else {
        let Some(value) = value.filter(present) else {
            return ControlFlow::Continue(());
        };
        let alone = |node| Element {
            node: Some(node),
            extra: None,
            of,
        };
        if value.kind() != Kind::Array {
            return receive(alone(value));
        }
        for node in value.items() {
            flow(resource.step())?;
            if present(&node) {
                receive(alone(node))?;
            }
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
        flow(resource.step())?;
        let node = node.filter(present);
        let extra = extra.filter(|e| e.kind() == Kind::Object);
        if node.is_some() || extra.is_some() {
            receive(Element { node, extra, of })?;
        }
    }
}

/// Whether an item is of the type: by its own where that is known, otherwise as far as its JSON tells.
pub(super) fn is_of_type(item: &Item<'_>, test: &TypeTest) -> bool {
    let element = match item {
        Item::Value(value) => return test.takes(value.type_of()),
        Item::Element(element) => element,
    };
    if let Some(of) = element.type_of() {
        return test.takes(of);
    }
    if let Some(found) = element.resource_type() {
        return found == test.name || matches!(test.name.as_str(), "Resource" | "DomainResource");
    }
    let is_complex = matches!(test.class, Class::Complex | Class::Quantity);
    let Some(node) = element.node else {
        return !is_complex && test.class != Class::Resource;
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
            // FHIR writes its own as a string.
            Class::Integer64 => test.of != Some(system::LONG),
            Class::Date | Class::DateTime => Temporal::date(node.text()).is_some(),
            Class::Time => Temporal::time(node.text()).is_some(),
            _ => false,
        },
        Kind::Object => is_complex,
    }
}

/// Steps that it takes to find the type of a property by its name.
const PROPERTY: u64 = 8;

/// All elements of an item, in the order of the text (`children()`); of a primitive its id and extensions.
pub(super) fn children<'a>(item: &Item<'a>, resource: &Resource<'a>, receive: Receiver<'_, 'a>) -> Flow {
    let Some(object) = item.element().and_then(|element| element.object()) else {
        return ControlFlow::Continue(());
    };
    let of = item.element().and_then(|element| element.type_of());
    let members = object.last_members();
    flow(resource.steps(members.len() as u64 * PROPERTY))?;
    // Looked up by name for each property, they would cost the square of their number.
    let mut beside: HashMap<&str, Node<'a>> = HashMap::new();
    for (key, node) in &members {
        if let Some(name) = key.strip_prefix('_') {
            beside.insert(name, *node);
        }
    }
    let mut push = |name: &str, value, extra| {
        let of = of.and_then(|of| of.property(name));
        elements(value, extra, of, resource, |element| {
            receive(Item::Element(element))
        })
    };
    for (key, value) in &members {
        if *key != "resourceType" && !key.starts_with('_') {
            push(key, Some(*value), beside.remove(key))?;
        }
    }
    for (key, _) in &members {
        if let Some(name) = key.strip_prefix('_')
            && let Some(extra) = beside.remove(name)
        {
            push(name, None, Some(extra))?;
        }
    }
    ControlFlow::Continue(())
}

/// `.extension(url)`
pub(super) fn extension<'a>(
    item: &Item<'a>,
    url: &str,
    resource: &Resource<'a>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    let Some(object) = item.element().and_then(|e| e.object()) else {
        return ControlFlow::Continue(());
    };
    resource.look_through(object);
    let extensions = object.member("extension");
    for node in extensions.into_iter().flat_map(Node::items) {
        flow(resource.step())?;
        resource.look_through(node);
        let found = node.member("url").and_then(Node::as_str);
        if found.is_some_and(|found| same_text(found, url, resource)) {
            receive(Item::Element(Element {
                node: Some(node),
                extra: None,
                of: Type::extension(),
            }))?;
        }
    }
    ControlFlow::Continue(())
}

/// Whether two texts are equal; those of other lengths differ at once.
#[inline]
pub(super) fn same_text(a: &str, b: &str, resource: &Resource<'_>) -> bool {
    if a.len() != b.len() {
        return false;
    }
    resource.spend_bytes(a.len());
    a == b
}

/// `.getResourceKey()`: the id of a resource; nothing of anything else.
pub(super) fn resource_key<'a>(item: &Item<'a>, resource: &Resource<'a>, receive: Receiver<'_, 'a>) -> Flow {
    resource.read(item);
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
            of: Type::id(),
        })),
        None => ControlFlow::Continue(()),
    }
}

/// `.getReferenceKey(Type)`: the id that a literal reference ends with, if it is of the type.
pub(super) fn reference_key<'a>(
    item: &Item<'a>,
    of_type: Option<&str>,
    resource: &Resource<'a>,
    receive: Receiver<'_, 'a>,
) -> Flow {
    resource.read(item);
    let reference = item
        .element()
        .and_then(|e| e.object())
        .and_then(|o| o.member("reference"))
        .and_then(Node::as_str);
    match reference.and_then(|reference| key_of(reference, of_type, resource)) {
        Some(id) => receive(Item::Value(Value::Text(id.into()))),
        None => ControlFlow::Continue(()),
    }
}

/// The id that a literal reference ends with, if it is of the type.
pub(super) fn key_of<'r>(
    reference: &'r str,
    of_type: Option<&str>,
    resource: &Resource<'_>,
) -> Option<&'r str> {
    resource.spend_bytes(reference.len());
    // Most are `Type/id`.
    if let Some((found, id)) = reference.split_at_checked(reference.bytes().position(|b| b == b'/')?)
        && let Some(id) = id.get(1..).filter(|id| is_key(id))
        // The wanted type is one: no need to look at its letters.
        && (of_type == Some(found) || is_type(found))
    {
        return is_wanted(found, of_type).then_some(id);
    }
    let (found, id) = split_reference(reference)?;
    is_wanted(found, of_type).then_some(id)
}

fn is_wanted(found: &str, of_type: Option<&str>) -> bool {
    of_type.is_none_or(|of_type| of_type == found || of_type == "Resource")
}

/// Type and id of the literal reference `[base/]Type/id[/_history/version]`. A contained (`#a`), logical, conditional or `urn:` one has none.
pub fn split_reference(reference: &str) -> Option<(&str, &str)> {
    let (mut before, mut id) = reference.rsplit_once('/')?;
    if let Some((versioned, "_history")) = before.rsplit_once('/') {
        (before, id) = versioned.rsplit_once('/')?;
    }
    let found = match before.rsplit_once('/') {
        None => before,
        // A slash behind these is one of a query.
        Some((base, _)) if base.contains(['?', '#']) => return None,
        Some((_, found)) => found,
    };
    (is_key(id) && is_type(found)).then_some((found, id))
}

/// Whether a text is a FHIR `id` ([`is_id`](crate::resource::is_id)), or one with underscores, which servers take too.
fn is_key(text: &str) -> bool {
    // All bytes are looked at, whatever the first are, so that many are at once.
    let fits = |byte: u8| byte.is_ascii_alphanumeric() | matches!(byte, b'-' | b'.' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().fold(true, |all, byte| all & fits(byte))
}
