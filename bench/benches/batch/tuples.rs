//! Rows in PostgreSQL's binary COPY form.

/// Signature, flags, length of the header's extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// A tuple of -1 fields ends the data.
pub(crate) const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// Rows, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Tuples {
    bytes: Vec<u8>,
}

impl Tuples {
    /// A row of so many fields, which come next.
    pub(crate) fn row(&mut self, fields: i16) -> &mut Self {
        self.bytes.extend_from_slice(&fields.to_be_bytes());
        self
    }

    pub(crate) fn text(&mut self, value: &[u8]) -> &mut Self {
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
        self
    }

    pub(crate) fn bigint(&mut self, value: i64) -> &mut Self {
        self.text(&value.to_be_bytes())
    }

    pub(crate) fn smallint(&mut self, value: i16) -> &mut Self {
        self.text(&value.to_be_bytes())
    }

    pub(crate) fn boolean(&mut self, value: bool) -> &mut Self {
        self.text(&[u8::from(value)])
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The rows so far; begins anew.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
