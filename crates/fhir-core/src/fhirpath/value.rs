//! What an expression yields: elements of the resource, still in its text, and values that were computed.

use std::borrow::Cow;

use super::{number::Decimal, temporal::Temporal};
use crate::json::{Kind, Node};

/// One item of a FHIRPath collection.
#[derive(Debug, Clone)]
pub enum Item<'a> {
    /// An element of the resource.
    Element(Element<'a>),
    /// A literal, a constant or a result.
    Value(Value<'a>),
}

/// An element: its value, and for a primitive what hangs on it beside the value.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    /// The JSON value; none for a primitive that has only an id or extensions.
    pub node: Option<Node<'a>>,
    /// Id and extensions of a primitive: the object of the property with the leading underscore.
    pub extra: Option<Node<'a>>,
    /// The type, capitalised, where the property's name tells it (`Quantity` in `valueQuantity`).
    pub suffix: Option<&'a str>,
}

/// A System value.
#[derive(Clone)]
pub enum Value<'a> {
    /// Boolean
    Boolean(bool),
    /// Integer
    Integer(i64),
    /// Decimal
    Decimal(Decimal),
    /// A number with more digits than are computed with; compared by them.
    Huge(&'a str),
    /// String
    Text(Cow<'a, str>),
    /// Date, `DateTime` or Time, and its lexical form
    Temporal(Temporal, &'a str),
}

impl<'a> Element<'a> {
    /// An element without anything beside its value.
    pub fn of(node: Node<'a>) -> Self {
        Self {
            node: Some(node),
            extra: None,
            suffix: None,
        }
    }

    /// Where the element's own members are: the object, or what stands beside a primitive.
    pub fn object(&self) -> Option<Node<'a>> {
        self.node.filter(|n| n.kind() == Kind::Object).or(self.extra)
    }

    /// `resourceType`, if the element is a resource.
    pub fn resource_type(&self) -> Option<&'a str> {
        self.node
            .and_then(|n| n.member("resourceType"))
            .and_then(Node::as_str)
    }

    /// The value of a primitive; a date or time only where the type is known to be one.
    pub fn value(&self) -> Option<Value<'a>> {
        let node = self.node?;
        Some(match node.kind() {
            Kind::True => Value::Boolean(true),
            Kind::False => Value::Boolean(false),
            Kind::Number => Value::number(node.text()),
            Kind::String => {
                let text = node.text();
                let temporal = match self.suffix {
                    Some("Date" | "DateTime" | "Instant") => Temporal::date(text),
                    Some("Time") => Temporal::time(text),
                    _ => None,
                };
                match temporal {
                    Some(temporal) => Value::Temporal(temporal, text),
                    None => Value::Text(Cow::Borrowed(text)),
                }
            }
            Kind::Null | Kind::Array | Kind::Object => return None,
        })
    }
}

impl<'a> Item<'a> {
    /// The System value, if the item has one.
    pub fn value(&self) -> Option<Value<'a>> {
        match self {
            Item::Element(element) => element.value(),
            Item::Value(value) => Some(value.clone()),
        }
    }

    /// The boolean, if it is one.
    pub fn boolean(&self) -> Option<bool> {
        match self {
            Item::Value(Value::Boolean(value)) => Some(*value),
            Item::Element(element) => match element.node?.kind() {
                Kind::True => Some(true),
                Kind::False => Some(false),
                _ => None,
            },
            Item::Value(_) => None,
        }
    }

    /// The string, if it is one.
    pub fn text(&self) -> Option<Cow<'a, str>> {
        match self {
            Item::Value(Value::Text(text)) => Some(text.clone()),
            Item::Value(Value::Temporal(_, text)) => Some(Cow::Borrowed(text)),
            Item::Element(element) => element.node.and_then(Node::as_str).map(Cow::Borrowed),
            Item::Value(_) => None,
        }
    }

    /// The element, if it is one.
    pub fn element(&self) -> Option<Element<'a>> {
        match self {
            Item::Element(element) => Some(*element),
            Item::Value(_) => None,
        }
    }
}

impl<'a> Value<'a> {
    /// A number in its lexical form.
    pub fn number(lexical: &'a str) -> Self {
        if !lexical.contains(['.', 'e', 'E'])
            && let Ok(value) = lexical.parse()
        {
            return Value::Integer(value);
        }
        Decimal::parse(lexical).map_or(Value::Huge(lexical), Value::Decimal)
    }

    /// The number to compute with.
    pub fn decimal(&self) -> Option<Decimal> {
        match self {
            Value::Integer(value) => Some(Decimal::from(*value)),
            Value::Decimal(value) => Some(*value),
            _ => None,
        }
    }

    /// Whether it is a number.
    pub fn is_number(&self) -> bool {
        matches!(self, Value::Integer(_) | Value::Decimal(_) | Value::Huge(_))
    }

    /// The lexical form.
    pub fn lexical(&self) -> Cow<'a, str> {
        match self {
            Value::Boolean(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Value::Integer(value) => Cow::Owned(value.to_string()),
            Value::Decimal(value) => Cow::Owned(value.to_string()),
            Value::Huge(text) | Value::Temporal(_, text) => Cow::Borrowed(text),
            Value::Text(text) => text.clone(),
        }
    }
}

impl std::fmt::Debug for Value<'_> {
    /// The kind, never the content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Value::Boolean(_) => "Boolean",
            Value::Integer(_) => "Integer",
            Value::Decimal(_) | Value::Huge(_) => "Decimal",
            Value::Text(_) => "String",
            Value::Temporal(..) => "Temporal",
        })
    }
}
