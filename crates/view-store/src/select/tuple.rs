//! A row in COPY's binary form.

use bytes::{Buf as _, Bytes};

use super::row::unknown_form;
use crate::StoreError;
use crate::copy;
use crate::decode::take_i32;

/// How many fields (16 bits), and each field with its length before it (32 bits, -1: null), as PostgreSQL sent them.
pub(super) struct Tuple(Bytes);

impl Tuple {
    /// Of a message, which holds one row ("always one per row", protocol, COPY Operations). Before the first stands the header, and behind the last the
    /// trailer, each of them with a row or alone: `None`.
    pub(super) fn of(mut message: Bytes) -> Option<Self> {
        if message.starts_with(copy::HEADER) {
            message.advance(copy::HEADER.len());
        }
        (!message.is_empty() && message != copy::TRAILER).then_some(Self(message))
    }

    /// How many fields.
    pub(super) fn len(&self) -> usize {
        let count = self.0.first_chunk().copied().map(u16::from_be_bytes);
        usize::from(count.unwrap_or_default())
    }

    /// The fields from the first on; an error is the last one.
    pub(super) fn fields(&self) -> Fields<'_> {
        Fields {
            left: self.len(),
            rest: self.0.get(2..).unwrap_or_default(),
        }
    }
}

/// Fields of a tuple that are not read yet.
pub(super) struct Fields<'t> {
    left: usize,
    rest: &'t [u8],
}

impl<'t> Iterator for Fields<'t> {
    type Item = Result<Option<&'t [u8]>, StoreError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let field = take(&mut self.rest);
        // What is left over belongs to no field.
        if field.is_err() || self.left == 0 && !self.rest.is_empty() {
            self.left = 0;
            return Some(Err(unknown_form()));
        }
        Some(field)
    }
}

#[inline]
fn take<'t>(rest: &mut &'t [u8]) -> Result<Option<&'t [u8]>, StoreError> {
    let length = take_i32(rest).ok_or_else(unknown_form)?;
    let Ok(length) = usize::try_from(length) else {
        return Ok(None);
    };
    let (field, after) = rest.split_at_checked(length).ok_or_else(unknown_form)?;
    *rest = after;
    Ok(Some(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: &[u8] = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";

    fn read(message: &[u8]) -> Option<Result<Vec<Option<Vec<u8>>>, StoreError>> {
        let tuple = Tuple::of(Bytes::copy_from_slice(message))?;
        let owned = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
        Some(tuple.fields().map(|field| field.map(owned)).collect())
    }

    #[test]
    fn a_row_comes_with_its_frame_or_without() {
        let fields = vec![Some(b"ab".to_vec()), None, Some(Vec::new())];
        for message in [ROW.to_vec(), [copy::HEADER, ROW].concat()] {
            let read = read(&message).expect("a row").expect("fields");
            assert_eq!(read, fields);
        }
        for frame in [
            copy::HEADER.to_vec(),
            copy::TRAILER.to_vec(),
            [copy::HEADER, copy::TRAILER].concat(),
        ] {
            assert!(read(&frame).is_none());
        }
    }

    #[test]
    fn what_is_no_row_is_an_error() {
        for end in 3..ROW.len() {
            assert!(read(&ROW[..end]).expect("a row").is_err(), "{end}");
        }
        assert!(read(&[ROW, b"x"].concat()).expect("a row").is_err());
    }
}
