//! Functions of a string (FHIRPath N1, section 5.6). Places and lengths count characters.

use std::borrow::Cow;

use super::scalar::{Answer, Call, Function, Yields, bounded, of, plain};
use crate::fhirpath::value::Value;

pub(super) static FUNCTIONS: [Function; 11] = [
    plain("length", "length()", Yields::Integer, |call| {
        integer(call.text()?.map(|text| text.chars().count()))
    }),
    plain("upper", "upper()", Yields::Text, |call| {
        cased(call, str::to_uppercase)
    }),
    plain("lower", "lower()", Yields::Text, |call| {
        cased(call, str::to_lowercase)
    }),
    plain("trim", "trim()", Yields::Text, trim),
    of(
        "startsWith",
        "startsWith()",
        1,
        "one argument, a string",
        Yields::Boolean,
        |call| test(call, |text, part| text.starts_with(part)),
    ),
    of(
        "endsWith",
        "endsWith()",
        1,
        "one argument, a string",
        Yields::Boolean,
        |call| test(call, |text, part| text.ends_with(part)),
    ),
    of(
        "contains",
        "contains()",
        1,
        "one argument, a string",
        Yields::Boolean,
        |call| test(call, |text, part| text.contains(part)),
    ),
    of(
        "indexOf",
        "indexOf()",
        1,
        "one argument, a string",
        Yields::Integer,
        |call| place(call, |text, part| text.find(part)),
    ),
    of(
        "lastIndexOf",
        "lastIndexOf()",
        1,
        "one argument, a string",
        Yields::Integer,
        |call| place(call, |text, part| text.rfind(part)),
    ),
    Function {
        name: "substring",
        shown: "substring()",
        arguments: (1, 2),
        takes: "a start and at most a length",
        yields: Yields::Text,
        run: substring,
    },
    of(
        "replace",
        "replace()",
        2,
        "two arguments, a string and its substitution",
        Yields::Text,
        replace,
    ),
];

/// In capital or small letters; a text that is too long to be built is refused before.
fn cased<'a>(call: &Call<'_, 'a>, to: fn(&str) -> String) -> Answer<'a> {
    let Some(text) = call.text()? else { return Ok(None) };
    bounded(text.len())?;
    owned(Some(to(&text)))
}

#[expect(clippy::unnecessary_wraps, reason = "reads as an answer")]
fn owned<'a>(text: Option<String>) -> Answer<'a> {
    Ok(text.map(|text| Value::Text(Cow::Owned(text))))
}

#[expect(clippy::unnecessary_wraps, reason = "reads as an answer")]
fn integer<'a>(count: Option<usize>) -> Answer<'a> {
    Ok(count
        .and_then(|count| i32::try_from(count).ok())
        .map(|count| Value::Integer(count.into())))
}

/// A part of a string, borrowed where the string is.
fn part<'a>(text: &Cow<'a, str>, range: std::ops::Range<usize>) -> Value<'a> {
    Value::Text(match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[range]),
        Cow::Owned(text) => Cow::Owned(text[range].to_owned()),
    })
}

fn trim<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    Ok(call.text()?.map(|text| {
        let start = text.len() - text.trim_start().len();
        part(&text, start..start + text.trim().len())
    }))
}

fn test<'a>(call: &Call<'_, 'a>, holds: impl Fn(&str, &str) -> bool) -> Answer<'a> {
    let (text, part) = (call.text()?, call.text_argument(0)?);
    Ok(text
        .zip(part)
        .map(|(text, part)| Value::Boolean(holds(&text, &part))))
}

fn place<'a>(call: &Call<'_, 'a>, find: impl Fn(&str, &str) -> Option<usize>) -> Answer<'a> {
    let (Some(text), Some(part)) = (call.text()?, call.text_argument(0)?) else {
        return Ok(None);
    };
    // Of the empty string the specification says 0, wherever it is looked for.
    match find(&text, &part) {
        _ if part.is_empty() => Ok(Some(Value::Integer(0.into()))),
        Some(bytes) => integer(Some(text[..bytes].chars().count())),
        None => Ok(Some(Value::Integer((-1).into()))),
    }
}

fn substring<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    let (Some(text), Some(start)) = (call.text()?, call.integer_argument(0)?) else {
        return Ok(None);
    };
    // An empty length is as one that is not written.
    let length = call.integer_argument(1)?;
    let Ok(start) = usize::try_from(start) else {
        return Ok(None);
    };
    let Some((from, _)) = text.char_indices().nth(start) else {
        return Ok(None);
    };
    let to = match length {
        None => text.len(),
        Some(length) => {
            let length = usize::try_from(length).unwrap_or(0);
            text[from..]
                .char_indices()
                .nth(length)
                .map_or(text.len(), |(bytes, _)| from + bytes)
        }
    };
    Ok(Some(part(&text, from..to)))
}

fn replace<'a>(call: &Call<'_, 'a>) -> Answer<'a> {
    let (Some(text), Some(part), Some(with)) = (call.text()?, call.text_argument(0)?, call.text_argument(1)?)
    else {
        return Ok(None);
    };
    // The empty string is between all characters, and at both ends.
    let times = text.matches(&*part).count();
    bounded(text.len().saturating_add(times.saturating_mul(with.len())))?;
    owned(Some(text.replace(&*part, &with)))
}
