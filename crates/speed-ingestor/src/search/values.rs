//! The value of a search parameter: alternatives, escapes, and the forms that each kind takes. An error is a rule, without the value.

use fhir_core::{fhirpath::split_reference, resource::is_id};

use super::elements::Kind;

/// Alternatives of one value.
const MAX_ALTERNATIVES: usize = 1_000;
/// The codes of `gender`.
const GENDERS: [&str; 4] = ["male", "female", "other", "unknown"];
/// Their system, which the element does not hold.
const GENDER_SYSTEM: &str = "http://hl7.org/fhir/administrative-gender";

/// A coding that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) system: System,
    /// `None`: any code.
    pub(super) code: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum System {
    /// It may have any, and none.
    Any,
    /// It must have none.
    None,
    Is(String),
}

/// A resource that is referred to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Referred {
    /// `None`: of any type.
    pub(super) of_type: Option<String>,
    pub(super) id: String,
}

/// Each alternative of a value, read by `form`.
pub(super) fn alternatives<T>(
    value: &str,
    form: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let parts = split(value, ',');
    if parts.len() > MAX_ALTERNATIVES {
        return Err(format!("must have at most {MAX_ALTERNATIVES} alternatives"));
    }
    if parts.iter().any(|part| part.trim().is_empty()) {
        return Err("must not be empty, nor have an empty alternative (a comma in a value is \\,)".into());
    }
    parts.into_iter().map(form).collect()
}

/// `code`, `system|code`, `|code`, `system|`
pub(super) fn token(part: &str) -> Result<Token, String> {
    match *split(part, '|') {
        [code] => Ok(Token {
            system: System::Any,
            code: Some(unescaped(code)?),
        }),
        ["", ""] => Err("must have a system or a code beside the bar".into()),
        [system, code] => Ok(Token {
            system: match unescaped(system)? {
                none if none.is_empty() => System::None,
                system => System::Is(system),
            },
            code: Some(unescaped(code)?).filter(|code| !code.is_empty()),
        }),
        _ => Err("must be code, system|code, |code or system| (a bar in a code is \\|)".into()),
    }
}

/// One of `gender`'s codes: alone, or with its system. `None`: any.
pub(super) fn gender(part: &str) -> Result<Option<&'static str>, String> {
    let rule = || format!("must be {}, alone or behind {GENDER_SYSTEM}|", GENDERS.join(", "));
    let Token { system, code } = token(part).map_err(|_| rule())?;
    let known = match system {
        System::Any => true,
        System::None => false,
        System::Is(system) => system == GENDER_SYSTEM,
    };
    match code {
        _ if !known => Err(rule()),
        None => Ok(None),
        Some(code) => GENDERS
            .into_iter()
            .find(|gender| *gender == code)
            .map(Some)
            .ok_or_else(rule),
    }
}

/// Words, in small letters.
pub(super) fn words(part: &str) -> Result<String, String> {
    Ok(unescaped(part)?.to_lowercase())
}

/// An id.
pub(super) fn id(part: &str) -> Result<String, String> {
    Some(part)
        .filter(|id| is_id(id))
        .map(str::to_owned)
        .ok_or_else(|| "must be an id of 1 to 64 letters, digits, '-' and '.'".into())
}

/// `id`, `Type/id`, or a URL that ends in it.
pub(super) fn referred(part: &str, kind: Kind) -> Result<Referred, String> {
    let wanted = match kind {
        Kind::ReferenceTo(wanted) => Some(wanted),
        _ => None,
    };
    let part = unescaped(part)?;
    if is_id(&part) {
        let of_type = wanted.map(str::to_owned);
        return Ok(Referred { of_type, id: part });
    }
    let named = wanted.unwrap_or("Type");
    let rule = || format!("must be an id, {named}/id, or a URL that ends in {named}/id");
    let (of_type, id) = split_reference(&part).ok_or_else(rule)?;
    // What stands before the type, if anything, is a server's base.
    let bare = part.starts_with(of_type);
    if wanted.is_some_and(|wanted| wanted != of_type) || !(bare || part.contains("://")) {
        return Err(rule());
    }
    Ok(Referred {
        of_type: Some(of_type.to_owned()),
        id: id.to_owned(),
    })
}

/// The parts between a sign where it stands without a backslash before it.
fn split(text: &str, sign: char) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, found) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if found == '\\' {
            escaped = true;
        } else if found == sign {
            parts.push(&text[start..at]);
            start = at + found.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

/// Without the backslashes (FHIR R4, 3.1.1.3.2).
fn unescaped(text: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(text.len());
    let mut signs = text.chars();
    while let Some(sign) = signs.next() {
        match sign {
            '\\' => match signs.next() {
                Some(sign @ ('\\' | ',' | '|' | '$')) => plain.push(sign),
                _ => {
                    return Err(
                        "must have a backslash only before a comma, a bar, a dollar sign or a backslash"
                            .into(),
                    );
                }
            },
            sign => plain.push(sign),
        }
    }
    Ok(plain)
}
