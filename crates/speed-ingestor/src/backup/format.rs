//! How a backup is written: readings as compressed NDJSON, one a line, and the manifest. Pure: bytes come in and go out.
//!
//! A line is `{"id", "n", "as_of", "version", "last_updated", "received_at"}` and either `"deleted": true`, `"unreadable": <why>`, or `"body": <the resource>`:
//! byte by byte as it was held. A body that cannot stand in a line so (it has a line feed, or is not JSON) is `"body_base64"`.

mod line;
mod manifest;

pub use manifest::{FORMAT, Manifest, MarkSaved, TypeSaved};

use std::io::Write as _;

use flate2::{
    Compression,
    write::{GzDecoder, GzEncoder},
};
use sha2::{Digest as _, Sha256};

use crate::{hex::hex, store::SavedReading};

/// The longest line: the largest body that a message of the batch layer carries, in base64, and what else it holds.
const LONGEST_LINE: usize = 2 * api::MAX_MESSAGE_BYTES;
/// Of what is unpacked at once: a slice of this becomes at most a thousand times as much.
const SLICE: usize = 16 * 1024;
/// Of Synthea's resources an eighth is left; at gzip's default a tenth, for about twice the work (zlib, 4.8 MB of six types).
const LEVEL: u32 = 3;

/// Length and sum of an object, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// Of the object as it lies in the bucket.
    pub bytes: u64,
    /// Hexadecimal.
    pub sha256: String,
    /// Lines.
    pub readings: u64,
}

/// Makes an object: push readings, drain now and then what is to be written, finish.
pub struct Packer {
    encoder: GzEncoder<Vec<u8>>,
    digest: Sha256,
    bytes: u64,
    readings: u64,
    highest_n: i64,
}

impl Default for Packer {
    fn default() -> Self {
        Self {
            encoder: GzEncoder::new(Vec::new(), Compression::new(LEVEL)),
            digest: Sha256::new(),
            bytes: 0,
            readings: 0,
            highest_n: 0,
        }
    }
}

impl Packer {
    /// Adds a reading.
    pub fn push(&mut self, saved: &SavedReading) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.encoder, &line::Line::of(saved))?;
        self.encoder.write_all(b"\n")?;
        self.readings += 1;
        self.highest_n = self.highest_n.max(saved.reading.n);
        Ok(())
    }

    /// What is to be written so far.
    pub fn drain(&mut self) -> Vec<u8> {
        let out = std::mem::take(self.encoder.get_mut());
        self.count(&out);
        out
    }

    /// The rest, the sum of all that was drained, and the highest number.
    pub fn finish(mut self) -> std::io::Result<(Vec<u8>, Sum, i64)> {
        self.encoder.try_finish()?;
        let rest = self.drain();
        let sum = Sum {
            bytes: self.bytes,
            sha256: hex(&self.digest.finalize()),
            readings: self.readings,
        };
        Ok((rest, sum, self.highest_n))
    }

    fn count(&mut self, out: &[u8]) {
        self.digest.update(out);
        self.bytes += out.len() as u64;
    }
}

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// Reads an object: feed it as it comes, finish.
pub struct Unpacker {
    decoder: GzDecoder<Vec<u8>>,
    digest: Sha256,
    bytes: u64,
    readings: u64,
    /// Bytes unpacked in which no line ends.
    looked_at: usize,
    longest_line: usize,
}

impl Default for Unpacker {
    fn default() -> Self {
        Self {
            decoder: GzDecoder::new(Vec::new()),
            digest: Sha256::new(),
            bytes: 0,
            readings: 0,
            looked_at: 0,
            longest_line: LONGEST_LINE,
        }
    }
}

impl Unpacker {
    /// The pieces in which a part of an object is best fed.
    pub fn slices(part: &[u8]) -> impl Iterator<Item = &[u8]> {
        part.chunks(SLICE)
    }

    /// Readings that are whole now.
    pub fn feed(&mut self, slice: &[u8]) -> Result<Vec<SavedReading>, Malformed> {
        self.digest.update(slice);
        self.bytes += slice.len() as u64;
        self.decoder
            .write_all(slice)
            .map_err(|_| Malformed("it is not gzip"))?;
        self.whole_lines()
    }

    /// The rest, and the sum of all that was fed.
    pub fn finish(mut self) -> Result<(Vec<SavedReading>, Sum), Malformed> {
        self.decoder
            .try_finish()
            .map_err(|_| Malformed("it ends too early"))?;
        let rest = self.whole_lines()?;
        if !self.decoder.get_ref().is_empty() {
            return Err(Malformed("it ends within a line"));
        }
        let sum = Sum {
            bytes: self.bytes,
            sha256: hex(&self.digest.finalize()),
            readings: self.readings,
        };
        Ok((rest, sum))
    }

    fn whole_lines(&mut self) -> Result<Vec<SavedReading>, Malformed> {
        let unpacked = self.decoder.get_mut();
        let Some(last) = memchr::memrchr(b'\n', &unpacked[self.looked_at..]) else {
            self.looked_at = unpacked.len();
            return if unpacked.len() > self.longest_line {
                Err(Malformed("a line is too long"))
            } else {
                Ok(Vec::new())
            };
        };
        let last = self.looked_at + last;
        let rest = unpacked.split_off(last + 1);
        self.looked_at = rest.len();
        let lines = std::mem::replace(unpacked, rest);
        let mut readings = Vec::new();
        for text in lines[..last].split(|byte| *byte == b'\n') {
            readings.push(line::Line::parse(text).ok_or(Malformed("a line is not a reading"))?);
        }
        self.readings += readings.len() as u64;
        Ok(readings)
    }
}

#[cfg(test)]
mod tests {
    use api::speed::Reading;
    use chrono::DateTime;
    use fhir_core::resource::{Content, State};

    use super::*;

    fn saved(content: Content) -> SavedReading {
        let at = |micros| DateTime::from_timestamp_micros(micros).unwrap();
        SavedReading {
            reading: Reading {
                state: State {
                    id: "a.b-1".into(),
                    version: 7,
                    last_updated: at(1_700_000_000_123_456),
                    content,
                },
                n: 1 << 52,
                as_of: at(1_700_000_000_123_457),
            },
            received: at(-5),
        }
    }

    fn all() -> Vec<SavedReading> {
        [
            Content::Body(br#"{"resourceType":"Patient","x":1.50,"y":[1e3,"\u00e9"]}"#.to_vec()),
            Content::Body(b"{\"a\":\n1}".to_vec()),
            Content::Body(b" {} ".to_vec()),
            Content::Body(b"not json \xff".to_vec()),
            Content::Body(Vec::new()),
            Content::Deleted,
            Content::Unreadable("kept in an external store".into()),
        ]
        .map(saved)
        .to_vec()
    }

    fn packed(readings: &[SavedReading]) -> (Vec<u8>, Sum) {
        let mut packer = Packer::default();
        let mut object = Vec::new();
        for reading in readings {
            packer.push(reading).unwrap();
            object.extend(packer.drain());
        }
        let (rest, sum, highest_n) = packer.finish().unwrap();
        assert_eq!(highest_n, 1 << 52);
        object.extend(rest);
        (object, sum)
    }

    fn unpacked(object: &[u8], size: usize) -> Result<(Vec<SavedReading>, Sum), Malformed> {
        let (mut unpacker, mut readings) = (Unpacker::default(), Vec::new());
        for slice in object.chunks(size) {
            readings.extend(unpacker.feed(slice)?);
        }
        let (rest, sum) = unpacker.finish()?;
        readings.extend(rest);
        Ok((readings, sum))
    }

    #[test]
    fn readings_survive_byte_by_byte_however_the_object_comes() {
        let (object, sum) = packed(&all());
        assert_eq!((sum.readings, sum.bytes), (7, object.len() as u64));
        for size in [1, 7, 100, usize::MAX] {
            assert_eq!(unpacked(&object, size).unwrap(), (all(), sum.clone()));
        }
    }

    #[test]
    fn anyone_can_read_it() {
        let (object, _) = packed(&all()[..1]);
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(object.as_slice()), &mut text)
            .unwrap();
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["body"]["resourceType"], "Patient");
        assert_eq!(line["last_updated"], "2023-11-14T22:13:20.123456Z");
    }

    #[test]
    fn a_cut_object_is_no_object() {
        let (object, sum) = packed(&all());
        for end in 0..object.len() {
            let cut = unpacked(&object[..end], 64);
            assert!(cut.is_err() || cut.is_ok_and(|(_, found)| found != sum), "{end}");
        }
        assert_eq!(
            unpacked(b"something else", 64).unwrap_err(),
            Malformed("it is not gzip")
        );
    }

    #[test]
    fn a_line_that_never_ends_is_not_waited_for() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&vec![b' '; 200_000]).unwrap();
        let object = encoder.finish().unwrap();
        let mut unpacker = Unpacker {
            longest_line: 100_000,
            ..Unpacker::default()
        };
        let too_long = object.chunks(64).find_map(|slice| unpacker.feed(slice).err());
        assert_eq!(too_long, Some(Malformed("a line is too long")));
    }
}
