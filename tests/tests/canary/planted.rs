//! What is planted, and the search for it.

use std::fmt;

/// A value that must be nowhere but in answers, by what it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Canary {
    /// An id of a patient: letters, digits and '-'.
    PatientId,
    /// An id that HAPI does not know.
    OtherId,
    /// A family name.
    Family,
    /// A street.
    Address,
    /// A code of a diagnosis.
    Code,
    /// A text that a column of numbers cannot hold.
    Unfit,
    /// In a body that is broken.
    Broken,
    /// A value of a filter.
    Filter,
    /// A value of a search parameter.
    Search,
    /// A literal of SQL.
    Sql,
    /// A parameter of SQL.
    Parameter,
    /// In the path or the query of a URL.
    Url,
    /// In a header.
    Header,
    /// A token that is shown.
    Token,
    /// A password or token in the daemons' configuration.
    Secret,
    /// In what HAPI answers.
    Hapi,
    /// In what stands in Redis.
    Redis,
}

use Canary::{
    Address, Broken, Code, Family, Filter, Hapi, Header, OtherId, Parameter, PatientId, Redis, Search,
    Secret, Sql, Token, Unfit, Url,
};

const ALL: [Canary; 17] = [
    PatientId, OtherId, Family, Address, Code, Unfit, Broken, Filter, Search, Sql, Parameter, Url, Header,
    Token, Secret, Hapi, Redis,
];

impl Canary {
    /// The value. Where more than letters may stand, it has what is written in another way in JSON and in URLs.
    pub(crate) fn text(self) -> String {
        let name = format!("{self:?}").to_lowercase();
        match self {
            PatientId | OtherId | Url | Header | Token | Secret | Redis => format!("zq7-{name}-kanari"),
            _ => format!("zq7\"{name} é/kanari"),
        }
    }

    /// As it stands in a URL.
    pub(crate) fn encoded(self) -> String {
        percent(&self.text())
    }

    /// How it may be written.
    fn forms(self) -> Vec<(&'static str, String)> {
        let text = self.text();
        let json = serde_json::Value::String(text.clone()).to_string();
        let json = json.trim_matches('"').to_owned();
        let mut forms = vec![
            (
                "json within json",
                json.replace('\\', "\\\\").replace('"', "\\\""),
            ),
            ("json in ascii", json.replace('é', "\\u00e9")),
            ("json", json),
            ("debug", text.escape_debug().to_string()),
            ("bytes in debug", text.as_bytes().escape_ascii().to_string()),
            ("url", percent(&text)),
            ("form", percent(&text).replace("%20", "+")),
            (
                "hexadecimal",
                text.bytes()
                    .fold(String::new(), |text, byte| text + &format!("{byte:02x}")),
            ),
        ];
        // Within a longer text, base64 of a word depends on where it begins.
        for before in 0..3 {
            let encoded = base64(&[&b"xx"[..before], text.as_bytes()].concat());
            let whole = encoded.trim_end_matches('=');
            let inner = whole
                .get(usize::from(before > 0) * 4..whole.len() - 1)
                .unwrap_or_default();
            forms.push(("base64 for URLs", inner.replace('+', "-").replace('/', "_")));
            forms.push(("base64", inner.to_owned()));
        }
        forms.push(("plain", text));
        forms
    }
}

/// What each canary begins with, and the same in hexadecimal digits.
const BEGINNINGS: [&str; 2] = ["zq7", "7a7137"];

/// A place where one was found.
pub(crate) struct Hit {
    pub(crate) canary: Canary,
    form: &'static str,
    what: String,
    around: String,
}

impl fmt::Display for Hit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            canary,
            form,
            what,
            around,
        } = self;
        write!(f, "{canary:?} ({form}) in {what}: … {around} …")
    }
}

/// The first place of each canary in these bytes.
pub(crate) fn search(what: &str, bytes: impl AsRef<[u8]>) -> Vec<Hit> {
    let text = String::from_utf8_lossy(bytes.as_ref());
    let lower = text.to_ascii_lowercase();
    // Most texts are large, and hold nothing: all forms but those of base64 begin in one of two ways.
    let begun = BEGINNINGS.map(|beginning| lower.contains(beginning));
    let find = |canary: Canary| {
        canary.forms().into_iter().find_map(|(form, needle)| {
            // Letters of base64 mean something else when they are small.
            let (hay, needle) = if form.starts_with("base64") {
                (text.as_ref(), needle)
            } else {
                let needle = needle.to_ascii_lowercase();
                let may_be = BEGINNINGS
                    .iter()
                    .zip(begun)
                    .any(|(beginning, found)| found && needle.starts_with(beginning));
                may_be.then_some((lower.as_str(), needle))?
            };
            let at = hay.find(&needle)?;
            let around: String = hay[..at].chars().rev().take(160).collect();
            let before: String = around.chars().rev().collect();
            let after: String = hay[at..].chars().take(120).collect();
            Some(Hit {
                canary,
                form,
                what: what.to_owned(),
                around: format!("{before}{after}").replace('\n', "⏎"),
            })
        })
    };
    ALL.into_iter().filter_map(find).collect()
}

fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |group: &[u8]| {
        let part = |i: usize| u32::from(group.get(i).copied().unwrap_or_default());
        let bits = (part(0) << 16) | (part(1) << 8) | part(2);
        (0..4)
            .map(|i| {
                let digit = (bits >> (18 - 6 * i)) & 63;
                let padded = i > group.len();
                if padded {
                    '='
                } else {
                    char::from(DIGITS[digit as usize])
                }
            })
            .collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

#[test]
fn each_canary_is_found_in_each_of_its_forms_and_told_from_the_others() {
    assert_eq!(base64(b"any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
    for canary in ALL {
        for (form, needle) in canary.forms() {
            assert!(needle.len() > 12, "{canary:?} {form}: {needle}");
            let text = format!("of no interest {needle} of no interest");
            let hits = search("a text", &text);
            let found: Vec<Canary> = hits.iter().map(|hit| hit.canary).collect();
            assert_eq!(found, [canary], "{form}: {text}");
        }
        for before in ["", "x", "xy", "xyz"] {
            let text = base64(format!("{before}{}, and more", canary.text()).as_bytes());
            assert_eq!(
                search("a text", &text).len(),
                1,
                "{canary:?} behind {before}: {text}"
            );
        }
    }
    assert!(search("a text", "zq7 kanari").is_empty());
}
