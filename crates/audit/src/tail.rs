//! The end of a file of the audit: its last whole line, and what a crash may have left behind it.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
};

use crate::chain::Head;

/// The end of a file.
pub(crate) struct Tail {
    /// The last whole line.
    pub(crate) head: Option<Head>,
    /// Bytes behind it.
    pub(crate) behind: u64,
    /// The file ends with a line feed, or has nothing.
    pub(crate) closed: bool,
    /// They begin as a line of ours does.
    pub(crate) could_be_ours: bool,
}

/// Reads backwards until a whole line is found.
pub(crate) fn tail(file: &mut File, bytes: u64) -> io::Result<Tail> {
    let mut span: u64 = 64 * 1024;
    loop {
        let from = bytes.saturating_sub(span);
        file.seek(SeekFrom::Start(from))?;
        let mut read = Vec::new();
        (&mut *file).take(bytes - from).read_to_end(&mut read)?;
        let mut found = None;
        let mut at = read.len();
        for line in read.split_inclusive(|b| *b == b'\n').rev() {
            at -= line.len();
            if at == 0 && from > 0 {
                break;
            }
            // An object of JSON that is whole is a whole line, also where only its line feed is missing.
            if let Some(head) = Head::of_line(line.strip_suffix(b"\n").unwrap_or(line)) {
                found = Some((head, at + line.len()));
                break;
            }
        }
        if let Some((head, end)) = found {
            let behind = &read[end..];
            return Ok(Tail {
                head: Some(head),
                behind: behind.len() as u64,
                closed: read.ends_with(b"\n"),
                could_be_ours: true,
            });
        }
        if from == 0 {
            let begin = b"{\"seq\":";
            let shorter = read.len().min(begin.len());
            return Ok(Tail {
                head: None,
                behind: read.len() as u64,
                closed: read.is_empty() || read.ends_with(b"\n"),
                could_be_ours: read[..shorter] == begin[..shorter],
            });
        }
        span *= 4;
    }
}
