//! What `jsonb` cannot hold although it is JSON: the character NUL, halves of surrogate pairs, and numbers out of the range of numeric.

use crate::numeric;

/// Whether PostgreSQL will take a JSON text as jsonb. The text is taken to be valid JSON: it was parsed before.
pub(crate) fn check(json: &str) -> Result<(), String> {
    let bytes = json.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        at = match bytes[at] {
            b'"' => check_string(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => {
                let length = bytes[at..]
                    .iter()
                    .take_while(|b| matches!(b, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
                    .count();
                if !numeric::fits(&json[at..at + length]) {
                    return Err("holds a number out of the range of numeric".into());
                }
                at + length
            }
            _ => at + 1,
        };
    }
    Ok(())
}

/// From after the opening quote to after the closing one.
fn check_string(bytes: &[u8], mut at: usize) -> Result<usize, String> {
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => return Ok(at),
            b'\\' if bytes.get(at) == Some(&b'u') => at = check_unicode(bytes, at + 1)?,
            b'\\' => at += 1,
            _ => {}
        }
    }
    Err("is not valid JSON".into())
}

/// From after `\u` to after the escape, or after both escapes of a pair.
fn check_unicode(bytes: &[u8], at: usize) -> Result<usize, String> {
    match unit(bytes, at)? {
        0 => Err("holds a NUL character, which PostgreSQL cannot store".into()),
        0xD800..=0xDBFF => {
            let low = at + 4;
            if bytes.get(low..low + 2) == Some(b"\\u") && (0xDC00..=0xDFFF).contains(&unit(bytes, low + 2)?) {
                Ok(low + 6)
            } else {
                Err("holds half of a surrogate pair".into())
            }
        }
        0xDC00..=0xDFFF => Err("holds half of a surrogate pair".into()),
        _ => Ok(at + 4),
    }
}

fn unit(bytes: &[u8], at: usize) -> Result<u16, String> {
    bytes
        .get(at..at + 4)
        .and_then(|hex| std::str::from_utf8(hex).ok())
        .and_then(|hex| u16::from_str_radix(hex, 16).ok())
        .ok_or_else(|| "is not valid JSON".into())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn what_jsonb_cannot_hold_is_refused() {
        for json in [
            r#"{"a":"\u0000"}"#,
            r#"["\ud83d"]"#,
            r#"["\ud83dx"]"#,
            r#"["\ude00"]"#,
            "[1e999999]",
            r#"["\\\u0000"]"#,
        ] {
            assert!(check(json).is_err(), "{json}");
        }
    }

    #[test]
    fn what_it_can_is_taken() {
        for json in [
            r#"{"a":"\\u0000","b":1.50e2}"#,
            r#"["\ud83d\ude00","\u00e4"]"#,
            r#"{"q\"":[true,null,-0.0]}"#,
            "[]",
        ] {
            assert_eq!(check(json), Ok(()), "{json}");
        }
    }
}
