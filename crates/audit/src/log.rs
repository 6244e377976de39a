//! The append-only file: lines of a chain, in the order in which they came. Nothing in it is ever written over or cut off, not even what a crash has torn.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use serde::Deserialize;

use crate::{chain::Head, tail::tail};

/// When the file is told to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fsync {
    /// Before a record counts as written.
    Always,
    /// Once a second: a crash of the machine, not of the daemon, may take the last second.
    Second,
    /// When the system does it.
    Never,
}

/// Why nothing can be appended.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system says no.
    #[error("{what}: {reason}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The system's word.
        reason: io::ErrorKind,
    },
    /// Two processes would break the chain.
    #[error("another process writes it")]
    Locked,
    /// It is readable by others than its owner.
    #[error("its mode lets others read it: chmod 600")]
    Mode,
    /// It holds something else.
    #[error("it does not end with a line of this audit: move it away")]
    Foreign,
}

pub(crate) fn failed(what: &'static str) -> impl Fn(io::Error) -> LogError {
    move |error| LogError::Io {
        what,
        reason: error.kind(),
    }
}

/// Lines of which it is not known whether they were written.
#[derive(Debug, Clone, Copy)]
struct InDoubt {
    first: u64,
    lines: usize,
}

#[derive(Debug)]
struct Opened {
    file: File,
    bytes: u64,
    at: (u64, u64),
}

/// The file, and the head of its chain.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    fsync: Fsync,
    /// A file that is larger is put aside; 0 for never.
    rotate_bytes: u64,
    opened: Option<Opened>,
    head: Head,
    in_doubt: Option<InDoubt>,
    /// Of the records that are tried again: so many are written.
    skip: usize,
    unsynced: bool,
}

impl Log {
    /// Opens the file, or makes it. What a crash has torn off is closed with a line that says so.
    pub(crate) fn open(path: PathBuf, fsync: Fsync, rotate_bytes: u64) -> Result<Self, LogError> {
        let mut log = Self {
            path,
            fsync,
            rotate_bytes,
            opened: None,
            head: Head::default(),
            in_doubt: None,
            skip: 0,
            unsynced: false,
        };
        log.reopen()?;
        Ok(log)
    }

    /// Whether something was written that the disk was not told yet, and is to be.
    pub(crate) fn is_unsynced(&self) -> bool {
        self.unsynced && self.fsync == Fsync::Second
    }

    /// Puts these records, JSON objects, at the end. After a failure the same ones must come first at the next try: those that were written all the same are
    /// left out then.
    pub(crate) fn append(&mut self, records: &[impl AsRef<str>], now: DateTime<Utc>) -> Result<(), LogError> {
        if self
            .opened
            .as_ref()
            .is_some_and(|opened| !is_there(&self.path, opened.at))
        {
            // Whoever moved it away wants another one.
            self.sync()?;
            self.opened = None;
        }
        if self.opened.is_none() {
            self.reopen()?;
        }
        self.rotate_if_full(now)?;
        let records = records.get(self.skip..).unwrap_or_default();
        let (mut head, mut lines) = (self.head, Vec::new());
        for record in records {
            head.link(record.as_ref(), &mut lines);
        }
        let doubt = InDoubt {
            first: self.head.seq + 1,
            lines: records.len(),
        };
        if let Err(error) = self.write(&lines, head) {
            // A part may be there: the file itself tells which, when it is opened again.
            self.opened = None;
            self.in_doubt = Some(doubt);
            return Err(error);
        }
        self.skip = 0;
        Ok(())
    }

    fn write(&mut self, lines: &[u8], head: Head) -> Result<(), LogError> {
        let Some(opened) = &mut self.opened else {
            return Err(LogError::Io {
                what: "it is not open",
                reason: io::ErrorKind::Other,
            });
        };
        opened
            .file
            .write_all(lines)
            .map_err(failed("cannot be written"))?;
        opened.bytes += lines.len() as u64;
        self.unsynced |= !lines.is_empty();
        if self.fsync == Fsync::Always {
            opened
                .file
                .sync_data()
                .map_err(failed("cannot be told to the disk"))?;
            self.unsynced = false;
        }
        self.head = head;
        Ok(())
    }

    /// Tells the disk what was written, if that is to be done. Where the file is not open after a failure, it is told once it is open again.
    pub(crate) fn sync(&mut self) -> Result<(), LogError> {
        let Some(opened) = &self.opened else {
            return Ok(());
        };
        if self.unsynced && self.fsync != Fsync::Never {
            opened
                .file
                .sync_data()
                .map_err(failed("cannot be told to the disk"))?;
        }
        self.unsynced = false;
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), LogError> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(failed("cannot be opened"))?;
        let meta = file.metadata().map_err(failed("cannot be looked at"))?;
        check(&meta)?;
        file.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => LogError::Locked,
            std::fs::TryLockError::Error(error) => failed("cannot be locked")(error),
        })?;
        let mut opened = Opened {
            file,
            bytes: meta.len(),
            at: (meta.dev(), meta.ino()),
        };
        let tail = tail(&mut opened.file, meta.len()).map_err(failed("cannot be read"))?;
        match tail.head {
            Some(head) => self.head = head,
            // A file of which not one line is ours is somebody else's, unless it is the first line that was torn.
            None if tail.behind > 0 && !tail.could_be_ours => return Err(LogError::Foreign),
            None => {}
        }
        if let Some(doubt) = self.in_doubt.take() {
            let written = (self.head.seq + 1).saturating_sub(doubt.first);
            self.skip += usize::try_from(written).unwrap_or(usize::MAX).min(doubt.lines);
        }
        self.opened = Some(opened);
        if tail.behind > 0 || !tail.closed {
            let (mut head, mut lines) = (self.head, Vec::new());
            // A write that was cut may have got as far as the line feed.
            let feed = u64::from(!tail.closed);
            lines.extend(std::iter::repeat_n(b'\n', usize::from(!tail.closed)));
            if tail.behind > 0 {
                head.link_torn(tail.behind + feed, &mut lines);
            }
            if let Err(error) = self.write(&lines, head) {
                self.opened = None;
                return Err(error);
            }
        }
        Ok(())
    }

    fn rotate_if_full(&mut self, now: DateTime<Utc>) -> Result<(), LogError> {
        let full = self.rotate_bytes > 0
            && self
                .opened
                .as_ref()
                .is_some_and(|opened| opened.bytes >= self.rotate_bytes);
        if !full {
            return Ok(());
        }
        self.sync()?;
        let aside = format!(".{}-{}", now.format("%Y%m%dT%H%M%SZ"), self.head.seq);
        let mut name = self.path.clone().into_os_string();
        name.push(aside);
        std::fs::rename(&self.path, name).map_err(failed("cannot be put aside"))?;
        self.opened = None;
        self.reopen()
    }
}

/// Whether a path still leads to this file.
fn is_there(path: &Path, at: (u64, u64)) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| (meta.dev(), meta.ino()) == at)
}

fn check(meta: &Metadata) -> Result<(), LogError> {
    if !meta.is_file() {
        return Err(LogError::Io {
            what: "is no plain file",
            reason: io::ErrorKind::Other,
        });
    }
    if meta.mode() & 0o077 != 0 {
        return Err(LogError::Mode);
    }
    Ok(())
}

/// Whether a file could be written here: for a check of the configuration, which leaves nothing behind.
pub(crate) fn could_write(path: &Path) -> Result<(), LogError> {
    match std::fs::metadata(path) {
        Ok(meta) => {
            check(&meta)?;
            OpenOptions::new()
                .append(true)
                .open(path)
                .map(drop)
                .map_err(failed("cannot be opened"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".check-{}", std::process::id()));
            let probe = PathBuf::from(name);
            let made = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&probe);
            made.map_err(failed("cannot be made"))?;
            std::fs::remove_file(&probe).map_err(failed("cannot be taken away"))
        }
        Err(error) => Err(failed("cannot be looked at")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::{Verified, verify};

    fn now() -> DateTime<Utc> {
        "2026-11-29T10:00:00Z".parse().expect("a time")
    }

    fn whole(path: &Path, from: Head) -> Verified {
        let bytes = std::fs::read(path).expect("the file");
        verify(bytes.as_slice(), Some(from)).unwrap_or_else(|broken| {
            panic!("{broken}:\n{}", String::from_utf8_lossy(&bytes));
        })
    }

    fn open(path: &Path) -> Log {
        Log::open(path.to_owned(), Fsync::Always, 0).expect("a log")
    }

    #[test]
    fn a_file_goes_on_where_it_ended_and_belongs_to_one_process_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.ndjson");
        let mut log = open(&path);
        log.append(&["{\"n\":1}", "{\"n\":2}"], now()).expect("written");
        assert!(matches!(
            Log::open(path.clone(), Fsync::Never, 0),
            Err(LogError::Locked)
        ));
        drop(log);
        let mut log = open(&path);
        log.append(&["{\"n\":3}"], now()).expect("written");
        let found = whole(&path, Head::default());
        assert_eq!((found.lines, found.torn, found.head), (3, 0, log.head));
        let mode = std::fs::metadata(&path).expect("there").mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_last_line_cut_anywhere_is_kept_and_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.ndjson");
        open(&path)
            .append(&["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"], now())
            .expect("written");
        let bytes = std::fs::read(&path).expect("the file");
        for cut in 1..bytes.len() {
            let path = folder.path().join(format!("cut-{cut}"));
            std::fs::write(&path, &bytes[..cut]).expect("written");
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
                .expect("ours");
            let mut log = open(&path);
            log.append(&["{\"n\":4}"], now()).expect("written");
            let found = whole(&path, Head::default());
            // Only the line feed of a line may be missing, too.
            let at_an_end = bytes[cut - 1] == b'\n' || bytes[cut] == b'\n';
            assert_eq!(found.torn, u64::from(!at_an_end), "cut at {cut}");
            assert!(
                std::fs::read(&path).expect("the file").starts_with(&bytes[..cut]),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn a_torn_end_that_a_second_crash_tears_again_is_told_all_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.ndjson");
        open(&path).append(&["{\"n\":1}"], now()).expect("written");
        let good = std::fs::read(&path).expect("the file");
        for torn in ["{\"seq\":2", "{\"seq\":2\n", "{\"seq\":2\n{\"seq\":2,\"prev\":"] {
            std::fs::write(&path, [good.as_slice(), torn.as_bytes()].concat()).expect("written");
            open(&path).append(&["{\"n\":2}"], now()).expect("written");
            let found = whole(&path, Head::default());
            assert_eq!((found.lines, found.torn), (3, 1), "{torn}");
        }
    }

    #[test]
    fn another_file_begins_when_it_was_moved_and_when_it_is_full_and_the_chain_goes_on() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.ndjson");
        let mut log = Log::open(path.clone(), Fsync::Second, 0).expect("a log");
        log.append(&["{\"n\":1}"], now()).expect("written");
        let moved = folder.path().join("moved");
        std::fs::rename(&path, &moved).expect("moved");
        log.append(&["{\"n\":2}"], now()).expect("written");
        let first = whole(&moved, Head::default());
        assert_eq!(whole(&path, first.head).head.seq, 2);
        assert!(log.is_unsynced());
        log.sync().expect("on the disk");
        assert!(!log.is_unsynced());
        drop(log);

        let mut log = Log::open(path.clone(), Fsync::Never, 1).expect("a log");
        log.append(&["{\"n\":3}"], now()).expect("written");
        let aside = folder.path().join("audit.ndjson.20261129T100000Z-2");
        let second = whole(&aside, first.head);
        assert_eq!(whole(&path, second.head).lines, 1);
    }

    #[test]
    fn what_cannot_be_written_is_written_at_the_next_try_and_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.ndjson");
        let mut log = open(&path);
        log.append(&["{\"n\":1}"], now()).expect("written");
        let aside = folder.path().join("aside");
        std::fs::rename(&path, &aside).expect("moved");
        std::fs::create_dir(&path).expect("in its place");
        assert!(log.append(&["{\"n\":2}"], now()).is_err());
        std::fs::remove_dir(&path).expect("gone");
        log.append(&["{\"n\":2}", "{\"n\":3}"], now()).expect("written");
        let first = whole(&aside, Head::default());
        assert_eq!(whole(&path, first.head).lines, 2);

        // As after a write of which two lines and a piece got in.
        log.append(&["{\"n\":4}", "{\"n\":5}"], now()).expect("written");
        log.in_doubt = Some(InDoubt { first: 4, lines: 3 });
        let piece = OpenOptions::new().append(true).open(&path).expect("the file");
        std::io::Write::write_all(&mut &piece, b"{\"seq\":6,").expect("written");
        log.opened = None;
        log.append(&["{\"n\":4}", "{\"n\":5}", "{\"n\":6}"], now())
            .expect("written");
        let text = std::fs::read_to_string(&path).expect("the file");
        for n in 2..=6 {
            assert_eq!(text.matches(&format!("\"n\":{n}}}")).count(), 1, "{text}");
        }
        assert_eq!(whole(&path, first.head).torn, 1);
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("audit.ndjson");
        std::fs::write(&path, "somebody else's\n").expect("written");
        assert!(matches!(
            Log::open(path.clone(), Fsync::Never, 0),
            Err(LogError::Mode)
        ));
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
        assert!(matches!(
            Log::open(path.clone(), Fsync::Never, 0),
            Err(LogError::Foreign)
        ));
        assert!(Log::open(folder.path().to_owned(), Fsync::Never, 0).is_err());
        assert_eq!(std::fs::read(&path).expect("the file"), b"somebody else's\n");
        could_write(&folder.path().join("new")).expect("it could be made");
        assert!(!folder.path().join("new").exists());
        assert!(could_write(folder.path()).is_err() && could_write(&folder.path().join("no/file")).is_err());
    }
}
