//! Which key comes next: what wrote one resource wrote the others in the same order.
//!
//! At each place of a projection the keys are kept that were met there, each with the one that came after it last time. A key that is the
//! expected one is known by one comparison, with what is wanted of it. What is expected never changes what is read, only how fast.

use super::projection::{Place, Symbol};

/// Keys that are kept at a place; FHIR's elements have fewer.
const MAX_KEYS: usize = 64;

/// Longest key that is kept, with its quotes and colon.
const MAX_LENGTH: usize = 48;

/// Bytes of a key that are compared at once.
const HEAD: usize = 16;

/// The keys at all places of one projection.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    /// The projection that they are of.
    of: u64,
    /// The key that is never there; for each place the one before its first; then the keys that were met.
    known: Vec<Known>,
    /// For each place those that were met there.
    places: Vec<Vec<Number>>,
}

/// A key among those of all places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(u32);

impl Number {
    /// A key that no text has.
    const NONE: Self = Self(0);

    /// What stands before the first key at a place.
    pub(super) fn before_first(place: Place) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "places are few")]
        Self(1 + place.number() as u32)
    }
}

#[derive(Debug, Clone)]
struct Known {
    /// The first bytes of the text, or all of a shorter one, and the bits that they take.
    head: u128,
    mask: u128,
    /// The last bytes of a longer text.
    tail: u128,
    /// As it is written, from its first quote to its colon.
    text: Box<[u8]>,
    wanted: Option<(Symbol, Place)>,
    /// The key that came after it.
    next: Number,
}

impl Known {
    /// No bits are ever those of this head.
    fn never() -> Self {
        Self {
            head: 1,
            mask: 0,
            tail: 0,
            text: Box::default(),
            wanted: None,
            next: Number::NONE,
        }
    }
}

/// A key that was the expected one.
pub(super) struct Met {
    pub(super) number: Number,
    /// Bytes from its first quote to its colon.
    pub(super) length: usize,
    pub(super) wanted: Option<(Symbol, Place)>,
}

impl Shapes {
    /// Forgets all if it is of another projection.
    pub(super) fn prepare(&mut self, of: u64, places: usize) {
        if self.of != of {
            self.known.clear();
            self.known.resize(1 + places, Known::never());
            self.places.clear();
            self.places.resize(places, Vec::new());
            self.of = of;
        }
    }

    /// The key that is expected after another one, if the text begins with it.
    #[inline]
    pub(super) fn meet(&self, before: Number, text: &[u8]) -> Option<Met> {
        let number = self.known[before.0 as usize].next;
        let known = &self.known[number.0 as usize];
        if u128::from_le_bytes(*text.first_chunk()?) & known.mask != known.head {
            return None;
        }
        let length = known.text.len();
        // Few keys are longer, and hardly one so long that its first and last bytes do not meet.
        if length > HEAD {
            let tail = text.get(..length)?.last_chunk()?;
            if u128::from_le_bytes(*tail) != known.tail
                || length > 2 * HEAD && text[HEAD..length] != known.text[HEAD..]
            {
                return None;
            }
        }
        Some(Met {
            number,
            length,
            wanted: known.wanted,
        })
    }

    /// Expects this key at that place from now on; `text` is what stands there from its first quote to its colon. Returns what the next one
    /// comes after.
    pub(super) fn learn(
        &mut self,
        place: Place,
        before: Number,
        text: &[u8],
        wanted: Option<(Symbol, Place)>,
    ) -> Number {
        let keys = &mut self.places[place.number()];
        let found = (keys.iter()).find(|number| *self.known[number.0 as usize].text == *text);
        let number = match found {
            Some(number) => *number,
            None if keys.len() == MAX_KEYS || text.len() > MAX_LENGTH => {
                return Number::before_first(place);
            }
            None => {
                let (head, mask) = head(text);
                #[expect(clippy::cast_possible_truncation, reason = "MAX_KEYS at most of each place")]
                let number = Number(self.known.len() as u32);
                self.known.push(Known {
                    head,
                    mask,
                    tail: text.last_chunk().map_or(0, |tail| u128::from_le_bytes(*tail)),
                    text: text.into(),
                    wanted,
                    next: Number::NONE,
                });
                keys.push(number);
                number
            }
        };
        self.known[before.0 as usize].next = number;
        number
    }
}

/// The first bytes of a text as a word, and the bits of it that they take.
fn head(text: &[u8]) -> (u128, u128) {
    let (mut bytes, mut mask) = ([0; HEAD], [0; HEAD]);
    for ((byte, bits), of) in bytes.iter_mut().zip(&mut mask).zip(text) {
        *byte = *of;
        *bits = u8::MAX;
    }
    (u128::from_le_bytes(bytes), u128::from_le_bytes(mask))
}
