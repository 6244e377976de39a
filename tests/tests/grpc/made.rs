//! Bad requests made from descriptors: for each field, at any depth, values that should not be there.

use std::collections::HashMap;

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value,
};

/// Stands for a patient's name: no error text, and no line of a log, may hold it.
pub(crate) const CANARY: &str = "Zq9-Canary-Doe";
/// A name in a contract is never longer; nor is any value that makes sense.
const ABSURD_BYTES: usize = 300_000;
/// How often a message may be within itself.
const REPEATS: usize = 2;

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// A text that nobody knows, or one that is empty, absurdly long, or has a NUL.
    Text,
    /// Bytes that are nothing.
    Bytes,
    /// A number that no constant has.
    Enum,
    /// Below 0.
    Negative,
    /// As large, or as odd, as there is.
    Extreme,
}

/// A bad request.
pub(crate) struct Made {
    /// The fields from the request to the value.
    pub(crate) path: Vec<FieldDescriptor>,
    pub(crate) wrong: Wrong,
    pub(crate) bytes: Vec<u8>,
}

impl Made {
    /// The path, as messages have it.
    pub(crate) fn dotted(&self) -> String {
        let names: Vec<&str> = self.path.iter().map(FieldDescriptor::name).collect();
        names.join(".")
    }

    /// Whether the value is one of our own contracts, not within a Timestamp or a Duration, where any number can make sense.
    pub(crate) fn is_ours(&self) -> bool {
        self.path
            .last()
            .is_some_and(|leaf| leaf.parent_message().package_name().starts_with("researchflow"))
    }
}

/// The good request with one value spoilt, for each value and each way to spoil it.
pub(crate) fn spoilt(good: &DynamicMessage) -> Vec<Made> {
    let mut made = Vec::new();
    for path in leaves(&good.descriptor(), &mut Vec::new()) {
        let Some(leaf) = path.last() else { continue };
        for (wrong, value) in values(&leaf.kind()) {
            let mut message = good.clone();
            put(&mut message, &path, value);
            made.push(Made {
                path: path.clone(),
                wrong,
                bytes: prost::Message::encode_to_vec(&message),
            });
        }
    }
    made
}

/// Paths to everything that is no message.
fn leaves(message: &MessageDescriptor, above: &mut Vec<FieldDescriptor>) -> Vec<Vec<FieldDescriptor>> {
    let mut paths = Vec::new();
    for field in message.fields() {
        above.push(field.clone());
        match field.kind() {
            Kind::Message(inner) => {
                let same = |field: &&FieldDescriptor| field.kind() == Kind::Message(inner.clone());
                if above.iter().filter(same).count() <= REPEATS {
                    paths.extend(leaves(&inner, above));
                }
            }
            _ => paths.push(above.clone()),
        }
        above.pop();
    }
    paths
}

fn values(kind: &Kind) -> Vec<(Wrong, Value)> {
    let long = CANARY.repeat(ABSURD_BYTES / CANARY.len());
    let texts = [CANARY.to_owned(), format!("{CANARY}\0"), long, String::new()];
    match kind {
        Kind::String => texts
            .into_iter()
            .map(|text| (Wrong::Text, Value::String(text)))
            .collect(),
        Kind::Bytes => texts
            .into_iter()
            .map(|text| {
                (
                    Wrong::Bytes,
                    Value::Bytes([text.as_bytes(), &[0xff]].concat().into()),
                )
            })
            .collect(),
        Kind::Enum(_) => vec![
            (Wrong::Enum, Value::EnumNumber(2_000_000_000)),
            (Wrong::Enum, Value::EnumNumber(-1)),
        ],
        Kind::Int64 => vec![
            (Wrong::Negative, Value::I64(-1)),
            (Wrong::Negative, Value::I64(i64::MIN)),
            (Wrong::Extreme, Value::I64(i64::MAX)),
            // Of seconds a span that can be held, and no time of any calendar.
            (Wrong::Extreme, Value::I64(9_000_000_000_000_000)),
        ],
        Kind::Int32 => vec![
            (Wrong::Negative, Value::I32(-1)),
            (Wrong::Extreme, Value::I32(i32::MAX)),
        ],
        Kind::Uint64 => vec![(Wrong::Extreme, Value::U64(u64::MAX))],
        Kind::Double => vec![
            (Wrong::Negative, Value::F64(-1.0)),
            (Wrong::Extreme, Value::F64(f64::NAN)),
            (Wrong::Extreme, Value::F64(f64::INFINITY)),
            (Wrong::Extreme, Value::F64(f64::MIN_POSITIVE)),
        ],
        Kind::Bool => vec![(Wrong::Extreme, Value::Bool(true))],
        other => panic!("a contract has a field of kind {other:?}: say what is bad of it"),
    }
}

/// Sets the value at a path; what is on the way is made where it is not there.
fn put(message: &mut DynamicMessage, path: &[FieldDescriptor], value: Value) {
    let Some((field, rest)) = path.split_first() else {
        return;
    };
    let value = match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let mut inner = DynamicMessage::new(entry.clone());
            put(&mut inner, rest, value);
            let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
            let key = match inner.get_field(&key).as_ref() {
                Value::String(key) => MapKey::String(key.clone()),
                other => panic!("a key of a map is {other:?}: only texts are known here"),
            };
            let value = inner.get_field(&value).into_owned();
            message.set_field(field, Value::Map(HashMap::from([(key, value)])));
            return;
        }
        Kind::Message(of) => {
            let there = if field.is_list() {
                message
                    .get_field(field)
                    .as_list()
                    .and_then(<[Value]>::first)
                    .cloned()
            } else {
                message
                    .has_field(field)
                    .then(|| message.get_field(field).into_owned())
            };
            let mut inner = match there {
                Some(Value::Message(inner)) => inner,
                _ => DynamicMessage::new(of),
            };
            put(&mut inner, rest, value);
            Value::Message(inner)
        }
        _ => value,
    };
    let value = if field.is_list() {
        Value::List(vec![value])
    } else {
        value
    };
    message.set_field(field, value);
}
