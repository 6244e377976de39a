//! Rows of `COPY … TO STDOUT (FORMAT binary)`, as PostgreSQL's documentation of COPY has them: a header, tuples of fields with their length before,
//! and a tuple of -1 fields at the end. Fields are of the types that the query names; nothing is copied that is only looked at.

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime, TimeDelta};

/// Signature, flags, and the length of what follows in the header.
const HEADER: usize = 19;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// 2000-01-01, from which PostgreSQL counts microseconds, in those of Unix.
const EPOCH: i64 = 946_684_800_000_000;

/// What came is not what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Cuts what is received into tuples of so many fields.
#[derive(Debug, Default)]
pub(super) struct Tuples<const FIELDS: usize> {
    /// Received and not yet whole.
    rest: Bytes,
    begun: bool,
    ended: bool,
}

/// One row: where its fields lie in what was received.
pub(super) struct Tuple<'m, const FIELDS: usize> {
    message: &'m Bytes,
    fields: [Option<(usize, usize)>; FIELDS],
}

impl<const FIELDS: usize> Tuples<FIELDS> {
    /// Takes what was received next, and hands on each tuple that is whole.
    pub(super) fn take<E: From<Malformed>>(
        &mut self,
        received: Bytes,
        mut each: impl FnMut(&Tuple<'_, FIELDS>) -> Result<(), E>,
    ) -> Result<(), E> {
        // PostgreSQL sends a tuple a message, but does not promise it.
        let message = if self.rest.is_empty() {
            received
        } else {
            Bytes::from([&self.rest[..], &received[..]].concat())
        };
        let mut at = 0;
        if !self.begun {
            if message.len() < HEADER {
                self.rest = message;
                return Ok(());
            }
            if !message.starts_with(SIGNATURE) {
                return Err(Malformed.into());
            }
            let extension = int(&message, 15)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or(Malformed)?;
            at = HEADER + extension;
            self.begun = true;
        }
        while !self.ended && at < message.len() {
            let Some((fields, next)) = self.tuple(&message, at)? else {
                break;
            };
            if let Some(fields) = fields {
                each(&Tuple {
                    message: &message,
                    fields,
                })?;
            }
            at = next;
        }
        self.rest = message.slice(at.min(message.len())..);
        Ok(())
    }

    /// Whether the end was received: a connection that breaks off says it no other way.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }

    /// The fields of the tuple at this place (none of the last one), and where the next one begins; `None` if it is not whole.
    #[expect(clippy::type_complexity, reason = "an inner step, named above")]
    fn tuple(
        &mut self,
        message: &[u8],
        mut at: usize,
    ) -> Result<Option<(Option<[Option<(usize, usize)>; FIELDS]>, usize)>, Malformed> {
        let Some(count) = message.get(at..at + 2) else {
            return Ok(None);
        };
        at += 2;
        match i16::from_be_bytes([count[0], count[1]]) {
            -1 => {
                self.ended = true;
                return Ok(Some((None, at)));
            }
            count if usize::try_from(count) == Ok(FIELDS) => {}
            _ => return Err(Malformed),
        }
        let mut fields = [None; FIELDS];
        for field in &mut fields {
            let Some(length) = int(message, at) else {
                return Ok(None);
            };
            at += 4;
            if length == -1 {
                continue;
            }
            let length = usize::try_from(length).map_err(|_| Malformed)?;
            if message.len() < at + length {
                return Ok(None);
            }
            *field = Some((at, at + length));
            at += length;
        }
        Ok(Some((Some(fields), at)))
    }
}

fn int(message: &[u8], at: usize) -> Option<i32> {
    let bytes = message.get(at..at + 4)?;
    Some(i32::from_be_bytes(bytes.try_into().ok()?))
}

impl<const FIELDS: usize> Tuple<'_, FIELDS> {
    fn field(&self, index: usize) -> Option<&[u8]> {
        self.fields[index].map(|(from, to)| &self.message[from..to])
    }

    fn fixed<const N: usize>(&self, index: usize) -> Result<Option<[u8; N]>, Malformed> {
        self.field(index)
            .map(|bytes| bytes.try_into().map_err(|_| Malformed))
            .transpose()
    }

    /// `text`
    pub(super) fn text(&self, index: usize) -> Result<Option<&str>, Malformed> {
        self.field(index)
            .map(|bytes| str::from_utf8(bytes).map_err(|_| Malformed))
            .transpose()
    }

    /// Any type, as it was sent.
    #[expect(clippy::unnecessary_wraps, reason = "as the others")]
    pub(super) fn bytes(&self, index: usize) -> Result<Option<Bytes>, Malformed> {
        Ok(self.fields[index].map(|(from, to)| self.message.slice(from..to)))
    }

    /// `bigint`
    pub(super) fn bigint(&self, index: usize) -> Result<Option<i64>, Malformed> {
        Ok(self.fixed(index)?.map(i64::from_be_bytes))
    }

    /// `boolean`
    pub(super) fn boolean(&self, index: usize) -> Result<Option<bool>, Malformed> {
        Ok(self.fixed(index)?.map(|[byte]| byte != 0))
    }

    /// `timestamp`
    pub(super) fn timestamp(&self, index: usize) -> Result<Option<NaiveDateTime>, Malformed> {
        self.bigint(index)?
            .map(|micros| {
                let at = DateTime::from_timestamp_micros(EPOCH)?.naive_utc();
                at.checked_add_signed(TimeDelta::microseconds(micros))
            })
            .map(|at| at.ok_or(Malformed))
            .transpose()
    }

    /// `bigint[]` of one dimension, without nulls.
    pub(super) fn bigints(&self, index: usize) -> Result<Option<Vec<i64>>, Malformed> {
        let Some(bytes) = self.field(index) else {
            return Ok(None);
        };
        match int(bytes, 0) {
            Some(0) => return Ok(Some(Vec::new())),
            Some(1) => {}
            _ => return Err(Malformed),
        }
        // Dimensions, whether there are nulls, the members' type, length, first index.
        let (members, rest) = bytes.get(20..).ok_or(Malformed)?.as_chunks::<12>();
        if !rest.is_empty() {
            return Err(Malformed);
        }
        Ok(Some(
            members
                .iter()
                .map(|member| {
                    i64::from_be_bytes([
                        member[4], member[5], member[6], member[7], member[8], member[9], member[10],
                        member[11],
                    ])
                })
                .collect(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend(i32::try_from(bytes.len()).unwrap().to_be_bytes());
        out.extend(bytes);
    }

    /// Two rows between a header and an end.
    fn sent() -> Vec<u8> {
        let mut out = SIGNATURE.to_vec();
        out.extend([0; 8]);
        for version in [1_i64, 2] {
            out.extend(7_i16.to_be_bytes());
            field(&mut out, b"pat-1");
            field(&mut out, &version.to_be_bytes());
            field(&mut out, &86_400_000_000_i64.to_be_bytes());
            for _ in 3..6 {
                out.extend((-1_i32).to_be_bytes());
            }
            let mut array = Vec::new();
            for word in [1_i32, 0, 20, 1, 1, 8] {
                array.extend(word.to_be_bytes());
            }
            array.extend(77_i64.to_be_bytes());
            field(&mut out, &array);
        }
        out.extend((-1_i16).to_be_bytes());
        out
    }

    fn read(parts: &[&[u8]]) -> (Vec<String>, bool) {
        let (mut tuples, mut rows) = (Tuples::<7>::default(), Vec::new());
        for part in parts {
            tuples
                .take(Bytes::copy_from_slice(part), |row| {
                    rows.push(format!(
                        "{:?} {:?} {:?} {:?} {:?}",
                        row.text(0)?,
                        row.bigint(1)?,
                        row.timestamp(2)?.map(|t| t.to_string()),
                        row.text(4)?,
                        row.bigints(6)?
                    ));
                    Ok::<_, Malformed>(())
                })
                .unwrap();
        }
        (rows, tuples.ended())
    }

    #[test]
    fn however_it_is_cut_the_same_rows_come() {
        let sent = sent();
        let whole = read(&[&sent]);
        assert_eq!(
            whole.0[1],
            r#"Some("pat-1") Some(2) Some("2000-01-02 00:00:00") None Some([77])"#
        );
        assert!(whole.0.len() == 2 && whole.1);
        for cut in 1..sent.len() {
            assert_eq!(read(&[&sent[..cut], &sent[cut..]]), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_breaks_off_has_not_ended() {
        let sent = sent();
        assert!(!read(&[&sent[..sent.len() - 1]]).1);
    }

    #[test]
    fn what_was_not_asked_for_is_refused() {
        let take = |bytes: &[u8]| {
            Tuples::<7>::default().take(Bytes::copy_from_slice(bytes), |_| Ok::<_, Malformed>(()))
        };
        assert_eq!(take(&[b'x'; 40]), Err(Malformed));
        let mut other = sent();
        other[20] = 10;
        assert_eq!(take(&other), Err(Malformed), "another number of fields");
    }
}
