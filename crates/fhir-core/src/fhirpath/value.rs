//! What an expression yields: elements of the resource, still in its text, and values that were computed.

use std::borrow::Cow;

use super::{
    model::{Class, Type, system},
    quantity::{MAX_UNIT, Quantity, Unit},
    temporal::{Form, Temporal},
};
use crate::{
    json::{Kind, Node},
    number::{Decimal, Integer},
};

/// One item of a FHIRPath collection.
#[derive(Debug, Clone)]
pub(crate) enum Item<'a> {
    /// An element of the resource.
    Element(Element<'a>),
    /// A literal, a constant or a result.
    Value(Value<'a>),
}

/// An element: its value, and for a primitive what hangs on it beside the value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    /// The JSON value; none for a primitive that has only an id or extensions.
    pub node: Option<Node<'a>>,
    /// Id and extensions of a primitive: the object of the property with the leading underscore.
    pub extra: Option<Node<'a>>,
    /// The type, where FHIR's definitions or the property's name tell it; of a resource it can be a base of the one that it is.
    pub of: Option<Type>,
}

/// A System value.
#[derive(Clone)]
pub(crate) enum Value<'a> {
    /// Boolean
    Boolean(bool),
    /// Integer, or FHIR's integer64
    Integer(Integer),
    /// Decimal
    Decimal(Decimal),
    /// A number with more digits than are computed with; compared by them.
    Huge(&'a str),
    /// String
    Text(Cow<'a, str>),
    /// Date, `DateTime` or Time, and its lexical form
    Temporal(Temporal, Cow<'a, str>),
    /// Quantity
    Quantity(Box<Quantity>),
    /// What `type()` yields
    Type(Type),
}

/// Longest form of an integer64.
const INTEGER64: usize = 20;

impl<'a> Element<'a> {
    /// An element without anything beside its value.
    pub(crate) fn of(node: Node<'a>) -> Self {
        Self {
            node: Some(node),
            extra: None,
            of: None,
        }
    }

    /// An element of a known type without anything beside its value.
    pub(crate) fn alone(node: Node<'a>, of: Type) -> Self {
        Self {
            node: Some(node),
            extra: None,
            of: Some(of),
        }
    }

    /// Where the element's own members are: the object, or what stands beside a primitive.
    pub(crate) fn object(&self) -> Option<Node<'a>> {
        self.node.filter(|n| n.kind() == Kind::Object).or(self.extra)
    }

    /// `resourceType`, if the element is a resource.
    pub(crate) fn resource_type(&self) -> Option<&'a str> {
        self.node
            .and_then(|n| n.member("resourceType"))
            .and_then(Node::as_str)
    }

    /// The type that it is of now: of a resource the one that it says.
    pub(crate) fn type_of(&self) -> Option<Type> {
        match self.of {
            Some(of) if of.class() != Class::Resource => Some(of),
            // A resource type that the table does not have is none.
            of => self.resource_type().map_or(of, Type::fhir),
        }
    }

    /// The value of a primitive; a date or time only where the type is known to be one.
    pub(crate) fn value(&self) -> Option<Value<'a>> {
        let node = self.node?;
        let class = self.of.map(Type::class);
        Some(match node.kind() {
            Kind::True => Value::Boolean(true),
            Kind::False => Value::Boolean(false),
            Kind::Number if class == Some(Class::Decimal) => Value::fraction(node.text()),
            Kind::Number if class == Some(Class::Integer64) => match Value::number(node.text()) {
                Value::Integer(value) => Value::Integer(Integer::long(value.value())),
                other => other,
            },
            Kind::Number => Value::number(node.text()),
            Kind::String => {
                let text = node.text();
                let read = match class {
                    Some(Class::Date) => Temporal::date(text).map(|t| Value::Temporal(t, text.into())),
                    Some(Class::DateTime) => {
                        Temporal::date_time(text).map(|t| Value::Temporal(t, text.into()))
                    }
                    Some(Class::Time) => Temporal::time(text).map(|t| Value::Temporal(t, text.into())),
                    Some(Class::Integer64) if text.len() <= INTEGER64 => text
                        .parse()
                        .ok()
                        .map(|value| Value::Integer(Integer::long(value))),
                    _ => None,
                };
                read.unwrap_or(Value::Text(Cow::Borrowed(text)))
            }
            Kind::Null | Kind::Array | Kind::Object => return None,
        })
    }

    /// A FHIR Quantity as a number with its unit: UCUM's code, or the unit as it is shown. One with a comparator is none.
    pub(crate) fn quantity(&self) -> Option<Quantity> {
        if self.of.is_some_and(|of| of.class() != Class::Quantity) {
            return None;
        }
        let node = self.node.filter(|n| n.kind() == Kind::Object)?;
        let value = node.member("value").filter(|v| v.kind() == Kind::Number)?;
        if node.member("comparator").is_some() {
            return None;
        }
        let text = |name| node.member(name).and_then(Node::as_str);
        let ucum = text("system").is_none_or(|system| system == "http://unitsofmeasure.org");
        let code = text("code").filter(|_| ucum).or_else(|| text("unit"));
        if code.is_some_and(|code| code.len() > MAX_UNIT) {
            return None;
        }
        Some(Quantity {
            value: Decimal::parse(value.text())?,
            unit: Unit::Fhir(code.unwrap_or("1").to_owned()),
        })
    }
}

impl<'a> Item<'a> {
    /// The System value, if the item has one.
    pub(crate) fn value(&self) -> Option<Value<'a>> {
        match self {
            Item::Element(element) => element.value(),
            Item::Value(value) => Some(value.clone()),
        }
    }

    /// The same, borrowed: a text that was built is not copied.
    pub(crate) fn borrowed(&self) -> Option<Value<'_>> {
        match self {
            Item::Value(Value::Text(text)) => Some(Value::Text(Cow::Borrowed(text))),
            Item::Value(Value::Temporal(value, text)) => Some(Value::Temporal(*value, Cow::Borrowed(text))),
            other => other.value(),
        }
    }

    /// [`Item::operand`], borrowed.
    pub(crate) fn borrowed_operand(&self) -> Option<Value<'_>> {
        match self {
            Item::Value(_) => self.borrowed(),
            Item::Element(_) => self.operand(),
        }
    }

    /// How many bytes of text it is, if it is a string.
    pub(crate) fn text_len(&self) -> usize {
        match self {
            Item::Value(Value::Text(text) | Value::Temporal(_, text)) => text.len(),
            Item::Element(element) => element.node.and_then(Node::as_str).map_or(0, str::len),
            Item::Value(_) => 0,
        }
    }

    /// What operators work with: the value, or the quantity.
    pub(crate) fn operand(&self) -> Option<Value<'a>> {
        self.value().or_else(|| {
            let quantity = self.element()?.quantity()?;
            Some(Value::Quantity(Box::new(quantity)))
        })
    }

    /// Whether it is an element with elements of its own.
    pub(crate) fn is_complex(&self) -> bool {
        matches!(self, Item::Element(Element { node: Some(node), .. }) if !node.is_primitive())
    }

    /// Whether it is an element whose type is not known: a string may be meant as a date.
    pub(crate) fn is_untyped(&self) -> bool {
        matches!(self, Item::Element(Element { of: None, .. }))
    }

    /// The boolean, if it is one.
    pub(crate) fn boolean(&self) -> Option<bool> {
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
    pub(crate) fn text(&self) -> Option<Cow<'a, str>> {
        match self {
            Item::Value(Value::Text(text) | Value::Temporal(_, text)) => Some(text.clone()),
            Item::Element(element) => element.node.and_then(Node::as_str).map(Cow::Borrowed),
            Item::Value(_) => None,
        }
    }

    /// The element, if it is one.
    pub(crate) fn element(&self) -> Option<Element<'a>> {
        match self {
            Item::Element(element) => Some(*element),
            Item::Value(_) => None,
        }
    }
}

impl<'a> Value<'a> {
    /// A number in its lexical form.
    pub(crate) fn number(lexical: &'a str) -> Self {
        if !lexical.contains(['.', 'e', 'E'])
            && let Ok(value) = lexical.parse()
        {
            return Value::Integer(Integer::of(value));
        }
        Self::fraction(lexical)
    }

    /// A decimal in its lexical form, even if nothing is after its point.
    pub(crate) fn fraction(lexical: &'a str) -> Self {
        Decimal::parse(lexical).map_or(Value::Huge(lexical), Value::Decimal)
    }

    /// A date or time that was computed.
    pub(crate) fn temporal(value: Temporal) -> Self {
        Value::Temporal(value, Cow::Owned(value.to_string()))
    }

    /// Its type.
    pub(crate) fn type_of(&self) -> Type {
        match self {
            Value::Boolean(_) => system::BOOLEAN,
            Value::Integer(value) if value.is_long() => system::LONG,
            Value::Integer(_) => system::INTEGER,
            Value::Decimal(_) | Value::Huge(_) => system::DECIMAL,
            Value::Text(_) => system::STRING,
            Value::Temporal(value, _) => match value.form() {
                Form::Date => system::DATE,
                Form::DateTime => system::DATE_TIME,
                Form::Time => system::TIME,
            },
            Value::Quantity(_) => system::QUANTITY,
            Value::Type(_) => system::TYPE_INFO,
        }
    }

    /// The number to compute with.
    pub(crate) fn decimal(&self) -> Option<Decimal> {
        match self {
            Value::Integer(value) => Some(Decimal::from(value.value())),
            Value::Decimal(value) => Some(*value),
            _ => None,
        }
    }

    /// Whether it is a number.
    pub(crate) fn is_number(&self) -> bool {
        matches!(self, Value::Integer(_) | Value::Decimal(_) | Value::Huge(_))
    }

    /// The lexical form.
    pub(crate) fn lexical(&self) -> Cow<'a, str> {
        match self {
            Value::Boolean(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Value::Integer(value) => Cow::Owned(value.value().to_string()),
            Value::Decimal(value) => Cow::Owned(value.to_string()),
            Value::Huge(text) => Cow::Borrowed(text),
            Value::Text(text) | Value::Temporal(_, text) => text.clone(),
            Value::Quantity(quantity) => Cow::Owned(quantity.to_string()),
            Value::Type(of) => Cow::Borrowed(of.name()),
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
            Value::Quantity(_) => "Quantity",
            Value::Type(_) => "Type",
        })
    }
}
