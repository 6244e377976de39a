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
    places: Vec<Shape>,
}

#[derive(Debug, Default)]
struct Shape {
    keys: Vec<Known>,
    /// The key that came first.
    first: Option<Number>,
}

/// A key among those of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number(u8);

#[derive(Debug)]
struct Known {
    /// The first bytes of the text, or all of a shorter one, and the bits that they take.
    head: u128,
    mask: u128,
    /// As it is written, from its first quote to its colon.
    text: Box<[u8]>,
    wanted: Option<(Symbol, Place)>,
    /// The key that came after it.
    next: Option<Number>,
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
            self.places.clear();
            self.places.resize_with(places, Shape::default);
            self.of = of;
        }
    }

    /// The key that is expected at a place after another one, if the text begins with it.
    pub(super) fn meet(&self, place: Place, before: Option<Number>, text: &[u8]) -> Option<Met> {
        let shape = &self.places[place.number()];
        let number = match before {
            Some(before) => shape.keys[before.0 as usize].next?,
            None => shape.first?,
        };
        let known = &shape.keys[number.0 as usize];
        if u128::from_le_bytes(*text.first_chunk()?) & known.mask != known.head {
            return None;
        }
        // Few keys are longer.
        let met = known.text.len() <= HEAD || text[HEAD..].starts_with(&known.text[HEAD..]);
        met.then_some(Met {
            number,
            length: known.text.len(),
            wanted: known.wanted,
        })
    }

    /// Expects this key at that place from now on; `text` is what stands there from its first quote to its colon.
    pub(super) fn learn(
        &mut self,
        place: Place,
        before: Option<Number>,
        text: &[u8],
        wanted: Option<(Symbol, Place)>,
    ) -> Option<Number> {
        if text.len() > MAX_LENGTH {
            return None;
        }
        let (head, mask) = head(text);
        let shape = &mut self.places[place.number()];
        let found = (0_u8..)
            .zip(&shape.keys)
            .find(|(_, known)| known.head == head && *known.text == *text);
        let number = match found {
            Some((number, _)) => Number(number),
            None if shape.keys.len() == MAX_KEYS => return None,
            None => {
                #[expect(clippy::cast_possible_truncation, reason = "MAX_KEYS at most")]
                let number = Number(shape.keys.len() as u8);
                shape.keys.push(Known {
                    head,
                    mask,
                    text: text.into(),
                    wanted,
                    next: None,
                });
                number
            }
        };
        match before {
            Some(before) => shape.keys[before.0 as usize].next = Some(number),
            None => shape.first = Some(number),
        }
        Some(number)
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
