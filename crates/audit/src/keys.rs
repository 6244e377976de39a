//! Values as keyed hashes: whoever holds the key can ask "who looked for this number", and nobody else can find a number by trying all.
//!
//! A hash is the first 16 bytes of HMAC-SHA-256 (RFC 2104) over the value as UTF-8, in hexadecimal digits. The same value under the same key is the same hash,
//! in whatever field, operation and daemon it stood.

use std::{
    collections::HashSet,
    fmt, io,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
};

use daemon::mounted;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// What a key must have: as many bytes as the hash function gives.
const KEY_BYTES: usize = 32;
const KEY_DIGITS: usize = 2 * KEY_BYTES;
/// The longest name of a key.
const MAX_ID: usize = 32;
/// Bytes of a hash that are told.
const HASH_BYTES: usize = 16;

/// Why a file of keys cannot be used. Holds nothing of what the file holds.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::ErrorKind),
    /// It has no key.
    #[error("holds no key: a line is a name, a blank, and 64 hexadecimal digits (openssl rand -hex 32)")]
    Empty,
    /// A line is no key.
    #[error(
        "line {0}: must be a name of 1 to {MAX_ID} letters, digits, '.', '_' and '-', a blank, and at least {KEY_DIGITS} hexadecimal digits (openssl rand -hex 32)"
    )]
    Line(usize),
    /// Two keys have one name.
    #[error("line {0}: a key above has this name already")]
    Twice(usize),
}

/// One key, with its name, which stands in records.
#[derive(Clone)]
pub(crate) struct Key {
    id: Arc<str>,
    keyed: Hmac<Sha256>,
}

/// The keys of a file: the first is in use, the others are for looking up what was recorded under them.
#[derive(Clone, Debug)]
pub(crate) struct Keys(Vec<Key>);

/// Shows the name alone.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    /// Its name.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The hash of a value.
    pub(crate) fn hash(&self, value: &str) -> String {
        let mut mac = self.keyed.clone();
        mac.update(value.as_bytes());
        hex(&mac.finalize().into_bytes()[..HASH_BYTES])
    }
}

impl Keys {
    /// Reads a file of keys.
    pub(crate) fn read(file: &Path) -> Result<Self, KeyError> {
        let bytes = mounted::read(file).map_err(|error| KeyError::Unreadable(error.kind()))?;
        Self::parse(&bytes)
    }

    /// Reads keys: a line is a name, a blank and the key in hexadecimal digits; lines that begin with `#` and empty ones are skipped.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let text = str::from_utf8(bytes).map_err(|_| KeyError::Unreadable(io::ErrorKind::InvalidData))?;
        let (mut keys, mut known) = (Vec::new(), HashSet::new());
        for (place, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = key_of(line).ok_or(KeyError::Line(place + 1))?;
            if !known.insert(key.id.clone()) {
                return Err(KeyError::Twice(place + 1));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyError::Empty);
        }
        Ok(Self(keys))
    }

    /// The key in use.
    pub(crate) fn current(&self) -> &Key {
        // Never empty, by the ways to make one.
        &self.0[0]
    }

    /// All, the one in use first.
    pub(crate) fn all(&self) -> &[Key] {
        &self.0
    }
}

fn key_of(line: &str) -> Option<Key> {
    let (id, digits) = line.split_once(char::is_whitespace)?;
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let named = (1..=MAX_ID).contains(&id.len()) && id.bytes().all(word);
    let bytes = bytes_of(digits.trim()).filter(|bytes| named && bytes.len() >= KEY_BYTES)?;
    let keyed = Hmac::<Sha256>::new_from_slice(&bytes).ok()?;
    Some(Key { id: id.into(), keyed })
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    if !digits.is_ascii() || !digits.len().is_multiple_of(2) {
        return None;
    }
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
        .collect()
}

/// In hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            let _never_fails = write!(text, "{byte:02x}");
            text
        })
}

/// The keys in use, which a changed file replaces. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct KeyRing(Arc<RwLock<Key>>);

impl KeyRing {
    pub(crate) fn new(keys: &Keys) -> Self {
        Self(Arc::new(RwLock::new(keys.current().clone())))
    }

    pub(crate) fn current(&self) -> Key {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True if it is another one than before.
    pub(crate) fn replace(&self, keys: &Keys) -> bool {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let probe = "";
        let same = current.id == keys.current().id && current.hash(probe) == keys.current().hash(probe);
        *current = keys.current().clone();
        !same
    }
}

/// A value, and the parts of it that somebody may look for alone: `MRN` of `system|MRN`, `id` of `Patient/id`.
pub(crate) fn looked_for(value: &str) -> impl Iterator<Item = &str> {
    let token = value.rsplit_once('|').map(|(_, code)| code);
    let reference = value.rsplit_once('/').and_then(|(before, id)| {
        let of = before.rsplit('/').next().unwrap_or(before);
        let typed =
            of.starts_with(|c: char| c.is_ascii_uppercase()) && of.bytes().all(|b| b.is_ascii_alphabetic());
        typed.then_some(id)
    });
    let parts = [token, reference].into_iter().flatten();
    std::iter::once(value).chain(parts.filter(|part| !part.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGITS: &str = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";

    #[test]
    fn hashes_are_those_of_hmac_sha256() {
        // openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f, of "12345".
        let key = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
        let keys = Keys::parse(format!("a {key}").as_bytes()).expect("a key");
        assert_eq!(keys.current().hash("12345"), OPENSSL);
        assert_ne!(keys.current().hash("12346"), OPENSSL);
    }

    const OPENSSL: &str = "36e295174c2947fbba5ff2d280b635a4";

    #[test]
    fn the_first_key_is_in_use_and_lines_that_are_none_are_told_by_their_place() {
        let keys = Keys::parse(format!("# keys\n\n2026-11 {DIGITS}\n2025-11\t{DIGITS}01\n").as_bytes())
            .expect("two");
        assert_eq!(keys.current().id(), "2026-11");
        assert_eq!(keys.all().len(), 2);
        assert_ne!(keys.all()[0].hash("x"), keys.all()[1].hash("x"));
        for (text, wrong) in [
            (String::new(), KeyError::Empty),
            (format!("a {}", &DIGITS[2..]), KeyError::Line(1)),
            (format!("a {DIGITS}\nb {DIGITS}0"), KeyError::Line(2)),
            (format!("a {DIGITS}\nb {}é", &DIGITS[2..]), KeyError::Line(2)),
            (DIGITS.to_owned(), KeyError::Line(1)),
            (format!("a/b {DIGITS}"), KeyError::Line(1)),
            (format!("a {DIGITS}\na {DIGITS}"), KeyError::Twice(2)),
        ] {
            let error = Keys::parse(text.as_bytes()).expect_err("no keys");
            assert_eq!(error, wrong);
            assert!(!error.to_string().contains("0b0b"), "{error}");
        }
        assert_eq!(format!("{keys:?}"), "Keys([Key(2026-11), Key(2025-11)])");
    }

    #[test]
    fn a_ring_tells_whether_the_key_is_another() {
        let one = Keys::parse(format!("a {DIGITS}").as_bytes()).expect("a key");
        let other = Keys::parse(format!("b {DIGITS}\na {DIGITS}").as_bytes()).expect("keys");
        let ring = KeyRing::new(&one);
        assert!(!ring.replace(&one));
        assert!(ring.replace(&other));
        assert_eq!(ring.current().id(), "b");
    }

    #[test]
    fn parts_that_one_looks_for_are_hashed_too() {
        let parts = |value| looked_for(value).collect::<Vec<_>>();
        assert_eq!(parts("12345"), ["12345"]);
        assert_eq!(
            parts("http://hospital.example/mrn|12345"),
            ["http://hospital.example/mrn|12345", "12345"]
        );
        assert_eq!(parts("Patient/a"), ["Patient/a", "a"]);
        assert_eq!(parts("http://x/fhir/Patient/a"), ["http://x/fhir/Patient/a", "a"]);
        assert_eq!(parts("1980/01/02"), ["1980/01/02"]);
        assert_eq!(parts("Patient/"), ["Patient/"]);
    }
}
