//! The chain of lines: each holds its number and the SHA-256 of the line before, so that a line that is changed, taken out or put in is seen by whoever reads on.
//!
//! ```text
//! {"seq":7,"prev":"<sha256 of line 6>", …}
//! {"seq":8,"prev":"<sha256 of line 7>", …}
//! {"seq":9,"prev":"<sha256 of line 8>","kind":"torn","torn_bytes":31}      what stands between 8 and 9 is no line: a crash has cut it
//! ```
//!
//! Whoever may write the whole file can write a whole other chain, or leave out its end: that is seen by comparing with a head (number and hash of the last line)
//! that was noted elsewhere.

use std::io::{self, BufRead};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::keys::hex;

/// The last line: its number, and its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Head {
    /// 0 before the first line.
    pub seq: u64,
    /// All zero before the first line.
    pub hash: [u8; 32],
}

/// What every line begins with.
#[derive(Deserialize)]
struct Link {
    seq: u64,
    prev: String,
    #[serde(default)]
    torn_bytes: Option<u64>,
}

impl Head {
    /// The hash, in hexadecimal digits.
    pub(crate) fn hex(&self) -> String {
        hex(&self.hash)
    }

    /// Puts the line of a record (a JSON object) behind this one, with its line feed; the line is the head then.
    pub(crate) fn link(&mut self, record: &str, to: &mut Vec<u8>) {
        let at = to.len();
        let seq = self.seq + 1;
        to.extend_from_slice(format!("{{\"seq\":{seq},\"prev\":\"{}\",", self.hex()).as_bytes());
        to.extend_from_slice(record.strip_prefix('{').unwrap_or(record).as_bytes());
        *self = Self {
            seq,
            hash: Sha256::digest(&to[at..]).into(),
        };
        to.push(b'\n');
    }

    /// The line that says that what stands before it, so many bytes behind the head, is none.
    pub(crate) fn link_torn(&mut self, torn_bytes: u64, to: &mut Vec<u8>) {
        self.link(&format!("{{\"kind\":\"torn\",\"torn_bytes\":{torn_bytes}}}"), to);
    }

    /// The head that a line is, if it is a whole one.
    pub(crate) fn of_line(line: &[u8]) -> Option<Self> {
        let begin: Link = serde_json::from_slice(line).ok()?;
        Some(Self {
            seq: begin.seq,
            hash: Sha256::digest(line).into(),
        })
    }
}

/// What a chain was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Verified {
    /// Lines that hold.
    pub lines: u64,
    /// Pieces of lines that a crash has left, each told by the line behind it.
    pub torn: u64,
    /// The last line.
    pub head: Head,
}

/// Where a chain does not hold.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// A line was changed, or is of something else.
    #[error("line {0} is not a line of this audit, and no line behind it says that a crash has torn it")]
    NoLine(u64),
    /// The line before this one was changed, or lines are missing between.
    #[error("line {0} does not follow from the one before: a line was changed, taken out or put in")]
    Link(u64),
}

/// Reads a file to its end. `from`: the head of the file before, whose last line the first one here must follow; `None` takes the first line as it is.
/// A piece without a line feed at the end, which a crash may leave, is counted as torn.
pub(crate) fn verify(mut file: impl BufRead, from: Option<Head>) -> Result<Verified, Broken> {
    let mut found = Verified::default();
    let mut before = from;
    let (mut number, mut torn_bytes, mut torn_at) = (0, 0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let bytes = file.read_until(b'\n', &mut line)?;
        if bytes == 0 {
            break;
        }
        number += 1;
        let whole = line.strip_suffix(b"\n");
        let Some((begin, text)) =
            whole.and_then(|text| Some((serde_json::from_slice::<Link>(text).ok()?, text)))
        else {
            torn_at = if torn_bytes == 0 { number } else { torn_at };
            torn_bytes += bytes as u64;
            if whole.is_none() {
                // Nothing can stand behind it yet.
                found.torn += 1;
                torn_bytes = 0;
            }
            continue;
        };
        if begin.torn_bytes.unwrap_or(0) != torn_bytes {
            return Err(if torn_bytes > 0 {
                Broken::NoLine(torn_at)
            } else {
                Broken::Link(number)
            });
        }
        if let Some(before) = before
            && (begin.seq != before.seq + 1 || begin.prev != before.hex())
        {
            return Err(Broken::Link(number));
        }
        found.torn += u64::from(torn_bytes > 0);
        torn_bytes = 0;
        found.lines += 1;
        let head = Head {
            seq: begin.seq,
            hash: Sha256::digest(text).into(),
        };
        found.head = head;
        before = Some(head);
    }
    if torn_bytes > 0 {
        return Err(Broken::NoLine(torn_at));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(lines: u64) -> Vec<u8> {
        let (mut head, mut bytes) = (Head::default(), Vec::new());
        for number in 0..lines {
            head.link(&format!("{{\"n\":{number}}}"), &mut bytes);
        }
        bytes
    }

    fn check(bytes: &[u8]) -> Result<Verified, String> {
        verify(bytes, Some(Head::default())).map_err(|broken| broken.to_string())
    }

    #[test]
    fn a_chain_holds_as_it_was_written_and_goes_on_in_the_next_file() {
        let bytes = chain(5);
        let found = check(&bytes).expect("whole");
        assert_eq!((found.lines, found.torn, found.head.seq), (5, 0, 5));
        let split = bytes.iter().position(|b| *b == b'\n').expect("a line") + 1;
        let first = check(&bytes[..split]).expect("whole");
        let second = verify(&bytes[split..], Some(first.head)).expect("it follows");
        assert_eq!(second.head, found.head);
        assert!(verify(&bytes[split..], Some(Head::default())).is_err());
        assert!(verify(&bytes[split..], None).is_ok());
    }

    #[test]
    fn a_line_that_is_changed_taken_out_put_in_or_moved_is_seen() {
        let bytes = chain(5);
        let lines: Vec<&[u8]> = bytes.split_inclusive(|b| *b == b'\n').collect();
        let changed = String::from_utf8(bytes.clone())
            .expect("text")
            .replace("\"n\":2", "\"n\":9")
            .into_bytes();
        let without = [&lines[..2], &lines[3..]].concat().concat();
        let doubled = [&lines[..3], &lines[2..]].concat().concat();
        let moved = [lines[0], lines[2], lines[1], lines[3], lines[4]].concat();
        let foreign = [&lines[..2], &[b"no line\n".as_slice()][..], &lines[2..]]
            .concat()
            .concat();
        let begun_later = lines[1..].concat();
        for (what, bytes) in [
            ("changed", changed),
            ("without", without),
            ("doubled", doubled),
            ("moved", moved),
            ("foreign", foreign),
            ("begun later", begun_later),
        ] {
            assert!(check(&bytes).is_err(), "{what}");
        }
    }

    #[test]
    fn a_torn_line_is_one_only_where_the_line_behind_it_says_so() {
        let (mut head, mut bytes) = (Head::default(), Vec::new());
        head.link("{\"n\":1}", &mut bytes);
        let torn = b"{\"seq\":2,\"pre";
        bytes.extend_from_slice(torn);
        let found = check(&bytes).expect("a crash leaves this");
        assert_eq!((found.lines, found.torn), (1, 1));
        bytes.push(b'\n');
        assert!(check(&bytes).is_err(), "nobody says that it is torn");
        let mut lied = bytes.clone();
        head.clone().link_torn(3, &mut lied);
        assert!(check(&lied).is_err(), "of other bytes");
        head.link_torn(torn.len() as u64 + 1, &mut bytes);
        head.link("{\"n\":2}", &mut bytes);
        let found = check(&bytes).expect("told");
        assert_eq!((found.lines, found.torn, found.head), (3, 1, head));
        assert_eq!(Head::of_line(torn), None);
    }
}
