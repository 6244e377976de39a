//! JSON text as a tape: what the evaluator reads.
//!
//! ```text
//! bytes ──bitmap──► where strings and containers end ─┐
//!                     Projection: what is wanted ─────┴─parse──► Doc { text, entries: one per wanted value and key } ──Node──► members, items, &str
//! ```
//!
//! A [`Node`] is a place on the tape, free to copy; strings are borrowed from the text (from a side buffer where they hold escapes), and
//! numbers keep their lexical form, since `1.0` and `1.00` are different FHIR decimals. The tape is bounded by the text's length, nesting
//! by [`MAX_DEPTH`].

mod bitmap;
mod node;
mod parse;
mod projection;
mod same;
mod shape;
mod tape;
pub(crate) mod write;

pub(crate) use node::Only;
pub use node::{Items, Kind, Members, Node};
pub use projection::{Place, Projection, Symbol};
pub use tape::{MAX_DEPTH, Tape};

/// A JSON text on a [`Tape`].
#[derive(Debug)]
pub struct Doc<'t> {
    text: &'t str,
    entries: &'t [Entry],
    /// Strings with escapes, decoded, one after the other.
    unescaped: &'t str,
    /// What was read at each place of the projection.
    seen: &'t [Seen],
    /// What `seen` was before, of places where more than one was read.
    again: &'t [Seen],
    /// Whether an array holds arrays, which FHIR never has: then an item's place does not tell where it is.
    nested: bool,
    /// Whether some string holds NUL, or held half a surrogate pair (now U+FFFD): then its escaped form is not fit for `jsonb`.
    irregular: bool,
}

/// The members that were read at one place of a projection.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// The value of the last one.
    entry: u32,
    /// How many; what stands beside a primitive makes it two at least.
    count: u32,
    /// The place in [`Doc::again`], plus one, of what this was before the last one was read; 0 if nothing was.
    before: u32,
}

/// One value or key on the tape.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where its text begins: of a string the content, of all others the whole value.
    start: u32,
    /// Where its text ends.
    end: u32,
    /// Of a value, the entry after it and all that is in it; of a key, its symbol.
    next: u32,
    kind: Kind,
    /// For a string: `start` and `end` are places in the side buffer.
    decoded: bool,
}

/// Why a text is not read as JSON. Says where, never what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The bytes are not UTF-8.
    #[error("not UTF-8 at byte {at}")]
    InvalidUtf8 {
        /// Offset of the first byte that is none.
        at: usize,
    },
    /// Not JSON by RFC 8259.
    #[error("not JSON at byte {at}")]
    Syntax {
        /// Offset of the first byte that does not fit.
        at: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("JSON nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Longer than 4 GiB.
    #[error("JSON text longer than 4 GiB")]
    TooLong,
}
