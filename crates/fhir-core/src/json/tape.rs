//! The memory that resources are read into.

use super::{
    Doc, Entry, JsonError, Projection, Seen,
    bitmap::Bitmap,
    parse::{Parser, Refused},
    projection::Place,
    shape::{Number, Shapes},
};

/// Objects and arrays within each other. FHIR's deepest real resources (questionnaires) stay below 40.
pub const MAX_DEPTH: usize = 200;

/// Memory that resources are read into, one after the other; fastest where they are read for the same views.
#[derive(Debug, Default)]
pub struct Tape {
    pub(super) bitmap: Bitmap,
    pub(super) entries: Vec<Entry>,
    pub(super) unescaped: String,
    /// The containers that are open.
    pub(super) open: Vec<Open>,
    pub(super) seen: Vec<Seen>,
    pub(super) again: Vec<Seen>,
    pub(super) shapes: Shapes,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) entry: usize,
    /// What is wanted of it.
    pub(super) place: Place,
    /// The byte that closes it.
    pub(super) close: u8,
    /// What the next key comes after.
    pub(super) before: Number,
}

impl Tape {
    /// Reads one JSON text (RFC 8259), of its members those that are wanted. Of duplicate keys the last counts; half a surrogate pair reads
    /// as U+FFFD. Of what is passed over, only strings and the number of brackets are checked.
    pub fn read<'a>(&'a mut self, bytes: &'a [u8], projection: &Projection) -> Result<Doc<'a>, JsonError> {
        if u32::try_from(bytes.len()).is_err() {
            return Err(JsonError::TooLong);
        }
        let text =
            simdutf8::compat::from_utf8(bytes).map_err(|e| JsonError::InvalidUtf8 { at: e.valid_up_to() })?;
        self.bitmap.fill(bytes).map_err(|at| JsonError::Syntax { at })?;
        self.entries.clear();
        self.unescaped.clear();
        self.open.clear();
        self.seen.clear();
        self.again.clear();
        self.seen.resize(projection.places(), Seen::default());
        self.shapes.prepare(projection.identity(), projection.places());
        let mut parser = Parser::new(text, self, projection);
        parser.run().map_err(|refused| match refused {
            Refused::Syntax => JsonError::Syntax { at: parser.at },
            Refused::TooDeep => JsonError::TooDeep,
        })?;
        let (nested, irregular) = (parser.nested, parser.irregular);
        Ok(Doc {
            text,
            entries: &self.entries,
            unescaped: &self.unescaped,
            seen: &self.seen,
            again: &self.again,
            nested,
            irregular,
        })
    }
}
