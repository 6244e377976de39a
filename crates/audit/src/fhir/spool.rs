//! Records that wait for HAPI: files of lines in a folder, numbered in their order. The writer puts lines into the last one; the sender takes them from the first,
//! and takes it away when all of it is sent. A run begins a file of its own, so that what a crash has torn is at the end of one, where it is passed over.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use super::Settings;
use crate::{
    log::{Fsync, LogError, failed},
    writer::Sink,
};

/// A file that is larger is followed by another.
const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// What is read of a file at once.
const READ_BYTES: u64 = 1024 * 1024;
const SENT: &str = "sent";

/// What writer and sender share.
#[derive(Debug, Default)]
struct Both {
    /// The number of the file that is written.
    current: AtomicU64,
    /// Of all files.
    bytes: AtomicU64,
    /// That are not sent. (Below zero for a moment where the sender is quicker than the writer counts.)
    lines: AtomicI64,
}

/// The writer's side.
pub(crate) struct SpoolSink {
    folder: PathBuf,
    fsync: Fsync,
    most: u64,
    both: Arc<Both>,
    file: Option<(File, u64)>,
    unsynced: bool,
    told: Arc<Notify>,
}

/// The sender's side.
pub(crate) struct Spool {
    folder: PathBuf,
    both: Arc<Both>,
    place: Place,
}

/// Up to where it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Place {
    segment: u64,
    bytes: u64,
}

fn path_of(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:020}.ndjson"))
}

fn segments(folder: &Path) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".ndjson")?.parse().ok());
        if let Some(number) = number {
            found.push((number, entry.metadata()?.len()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

impl SpoolSink {
    pub(crate) fn open(
        settings: &Settings,
        fsync: Fsync,
        told: Arc<Notify>,
    ) -> Result<(Self, Spool), LogError> {
        let folder = settings.spool.clone();
        let found = segments(&folder).map_err(failed("cannot be read"))?;
        let place = Place::read(&folder);
        let last = found.last().map_or(0, |(number, _)| *number);
        let both = Arc::new(Both {
            // Behind what is sent, also where a person has taken the files away.
            current: AtomicU64::new(last.max(place.segment)),
            bytes: AtomicU64::new(found.iter().map(|(_, bytes)| bytes).sum()),
            lines: AtomicI64::default(),
        });
        let spool = Spool {
            place,
            folder: folder.clone(),
            both: both.clone(),
        };
        let lines = spool.count().map_err(failed("cannot be read"))?;
        both.lines.store(lines, Ordering::Release);
        let mut sink = Self {
            folder,
            fsync,
            most: settings.max_spool_bytes,
            both,
            file: None,
            unsynced: false,
            told,
        };
        sink.begin()?;
        Ok((sink, spool))
    }

    /// The next file.
    fn begin(&mut self) -> Result<(), LogError> {
        self.sync()?;
        let number = self.both.current.load(Ordering::Acquire) + 1;
        let path = path_of(&self.folder, number);
        let made = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        self.file = Some((made.map_err(failed("a file in it cannot be made"))?, 0));
        // The sender takes what lies before this for finished.
        self.both.current.store(number, Ordering::Release);
        Ok(())
    }
}

impl Sink for SpoolSink {
    fn name(&self) -> &'static str {
        "spool"
    }

    fn append(&mut self, lines: &[Arc<str>], _: DateTime<Utc>) -> Result<(), LogError> {
        let mut text = Vec::new();
        for line in lines {
            text.extend_from_slice(line.as_bytes());
            text.push(b'\n');
        }
        let more = text.len() as u64;
        let held = self.both.bytes.load(Ordering::Acquire);
        // What is more than all that may be held goes in where nothing else is.
        let is_full = held > 0 && held + more > self.most;
        // When it is full another file begins, so that the sender can take this one away.
        if self
            .file
            .as_ref()
            .is_none_or(|(_, bytes)| *bytes >= SEGMENT_BYTES || (is_full && *bytes > 0))
        {
            self.begin()?;
        }
        if is_full {
            let what = "it is full: HAPI takes less than there is (audit.fhir.max_spool_bytes)";
            return Err(LogError::Io {
                what,
                reason: io::ErrorKind::StorageFull,
            });
        }
        let Some((file, bytes)) = &mut self.file else {
            return Ok(());
        };
        let mut written = file.write_all(&text);
        if written.is_ok() && self.fsync == Fsync::Always {
            written = file.sync_data();
        }
        if let Err(error) = written {
            // What got in is at the end of a file, and comes again in the next one: under the same id. (Where nothing did, that file goes on.)
            let length = file.metadata().map_or(*bytes + more, |meta| meta.len());
            if length > *bytes {
                let got_in = usize::try_from(length - *bytes).unwrap_or(usize::MAX);
                let whole = lines_in(&text[..got_in.min(text.len())]);
                self.both.bytes.fetch_add(length - *bytes, Ordering::AcqRel);
                self.both.lines.fetch_add(whole, Ordering::AcqRel);
                // The next one begins once the disk was told of this one.
                *bytes = length.max(SEGMENT_BYTES);
            }
            return Err(failed("cannot be written")(error));
        }
        self.unsynced = self.fsync == Fsync::Second;
        *bytes += more;
        self.both.bytes.fetch_add(more, Ordering::AcqRel);
        self.both.lines.fetch_add(lines_in(&text), Ordering::AcqRel);
        self.told.notify_one();
        Ok(())
    }

    fn is_unsynced(&self) -> bool {
        self.unsynced
    }

    fn sync(&mut self) -> Result<(), LogError> {
        if let Some((file, _)) = self.file.as_ref().filter(|_| self.unsynced) {
            file.sync_data().map_err(failed("cannot be told to the disk"))?;
        }
        self.unsynced = false;
        Ok(())
    }
}

impl Place {
    fn read(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join(SENT)).unwrap_or_default();
        let place = text.trim().split_once(' ').and_then(|(segment, bytes)| {
            Some(Self {
                segment: segment.parse().ok()?,
                bytes: bytes.parse().ok()?,
            })
        });
        // Without it all is sent once more, under the same ids.
        place.unwrap_or_default()
    }

    fn write(self, folder: &Path) -> io::Result<()> {
        let new = folder.join("sent.new");
        std::fs::write(&new, format!("{} {}\n", self.segment, self.bytes))?;
        std::fs::rename(new, folder.join(SENT))
    }
}

/// Lines that come next, and where one is behind each.
pub(crate) struct Next {
    pub(crate) lines: Vec<String>,
    places: Vec<Place>,
}

impl Spool {
    /// How many lines wait.
    pub(crate) fn waiting(&self) -> i64 {
        self.both.lines.load(Ordering::Acquire).max(0)
    }

    /// As the files say.
    fn count(&self) -> io::Result<i64> {
        let mut lines = 0;
        for (number, _) in segments(&self.folder)? {
            if number >= self.place.segment {
                let bytes = std::fs::read(path_of(&self.folder, number))?;
                let from = if number == self.place.segment {
                    self.place.bytes
                } else {
                    0
                };
                let rest = bytes
                    .get(usize::try_from(from).unwrap_or(usize::MAX)..)
                    .unwrap_or_default();
                lines += lines_in(rest);
            }
        }
        Ok(lines)
    }

    /// The next lines, so many at most; none if all is sent.
    pub(crate) fn next(&mut self, most: usize) -> io::Result<Next> {
        loop {
            let current = self.both.current.load(Ordering::Acquire);
            let found = segments(&self.folder)?;
            let Some((number, bytes)) = found
                .into_iter()
                .find(|(number, _)| *number >= self.place.segment)
            else {
                return Ok(Next {
                    lines: Vec::new(),
                    places: Vec::new(),
                });
            };
            if number > self.place.segment {
                self.place = Place {
                    segment: number,
                    bytes: 0,
                };
            }
            let next = self.read(most)?;
            if !next.lines.is_empty() || number >= current {
                return Ok(next);
            }
            // All of it is sent, but for what a crash may have torn.
            std::fs::remove_file(path_of(&self.folder, number))?;
            self.both.bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.place = Place {
                segment: number + 1,
                bytes: 0,
            };
        }
    }

    fn read(&self, most: usize) -> io::Result<Next> {
        let mut file = File::open(path_of(&self.folder, self.place.segment))?;
        let mut span = READ_BYTES;
        loop {
            file.seek(SeekFrom::Start(self.place.bytes))?;
            let mut bytes = Vec::new();
            (&mut file).take(span).read_to_end(&mut bytes)?;
            let (mut lines, mut places, mut place) = (Vec::new(), Vec::new(), self.place);
            for line in bytes.split_inclusive(|b| *b == b'\n').take(most) {
                let Some(text) = line.strip_suffix(b"\n") else {
                    break;
                };
                place.bytes += line.len() as u64;
                lines.push(String::from_utf8_lossy(text).into_owned());
                places.push(place);
            }
            // One line that is longer than what was read.
            if lines.is_empty() && bytes.len() as u64 == span {
                span *= 4;
                continue;
            }
            return Ok(Next { lines, places });
        }
    }

    /// The first so many of these are sent, or never will be.
    pub(crate) fn sent(&mut self, next: &Next, count: usize) -> io::Result<()> {
        if let Some(place) = count.checked_sub(1).and_then(|last| next.places.get(last)) {
            self.place = *place;
            let sent = i64::try_from(count).unwrap_or(i64::MAX);
            self.both.lines.fetch_sub(sent, Ordering::AcqRel);
            self.place.write(&self.folder)?;
        }
        Ok(())
    }
}

/// How many whole lines there are.
fn lines_in(text: &[u8]) -> i64 {
    let ends = text.split(|byte| *byte == b'\n').count() - 1;
    i64::try_from(ends).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir::Authorization;

    fn open(folder: &Path, most: u64) -> (SpoolSink, Spool) {
        let settings = Settings {
            base: String::new(),
            authorization: Authorization::None,
            spool: folder.to_owned(),
            max_spool_bytes: most,
        };
        SpoolSink::open(&settings, Fsync::Always, Arc::default()).expect("a spool")
    }

    fn put(sink: &mut SpoolSink, line: &str) -> Result<(), LogError> {
        sink.append(&[line.into()], DateTime::UNIX_EPOCH)
    }

    #[test]
    fn what_waits_is_sent_in_its_order_also_after_a_crash_in_the_middle_of_a_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut sink, mut spool) = open(folder.path(), 1 << 20);
        for line in ["a", "b", "c"] {
            put(&mut sink, line).expect("room");
        }
        let next = spool.next(2).expect("read");
        assert_eq!(next.lines, ["a", "b"]);
        spool.sent(&next, 1).expect("noted");
        let torn = OpenOptions::new()
            .append(true)
            .open(path_of(folder.path(), 1))
            .expect("the file");
        (&torn).write_all(b"to").expect("written");
        drop((sink, spool));

        let (mut sink, mut spool) = open(folder.path(), 1 << 20);
        put(&mut sink, "d").expect("room");
        assert_eq!(spool.waiting(), 3);
        let next = spool.next(10).expect("read");
        assert_eq!(next.lines, ["b", "c"]);
        spool.sent(&next, 2).expect("noted");
        let next = spool.next(10).expect("read");
        assert_eq!(next.lines, ["d"]);
        assert!(!path_of(folder.path(), 1).exists(), "what is sent is taken away");
        spool.sent(&next, 1).expect("noted");
        assert!(spool.next(10).expect("read").lines.is_empty());
        assert_eq!(spool.waiting(), 0);
    }

    #[test]
    fn what_comes_after_a_person_has_taken_the_files_away_is_sent() {
        let folder = tempfile::tempdir().expect("a folder");
        let sent = Place {
            segment: 5,
            bytes: 1000,
        };
        sent.write(folder.path()).expect("noted");
        let (mut sink, mut spool) = open(folder.path(), 1 << 20);
        put(&mut sink, "a").expect("room");
        assert_eq!(spool.next(10).expect("read").lines, ["a"]);
    }

    #[test]
    fn the_disk_is_told_of_a_file_that_could_not_be_written_to_its_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut sink, mut spool) = open(folder.path(), 1 << 20);
        sink.fsync = Fsync::Second;
        put(&mut sink, "a").expect("room");
        // One that cannot be written, and that has more in it than is known of.
        sink.file = Some((File::open(path_of(folder.path(), 1)).expect("the file"), 0));
        assert!(put(&mut sink, "b").is_err());
        assert!(sink.is_unsynced() && sink.file.is_some(), "the disk can be told");
        sink.sync().expect("told");
        assert!(!sink.is_unsynced());
        put(&mut sink, "b").expect("room");
        assert!(path_of(folder.path(), 2).exists());
        assert_eq!(spool.next(10).expect("read").lines, ["a"]);
    }

    #[test]
    fn a_full_spool_takes_no_more_until_something_was_sent() {
        let folder = tempfile::tempdir().expect("a folder");
        let (mut sink, mut spool) = open(folder.path(), 100);
        let line = "x".repeat(60);
        put(&mut sink, &line).expect("room");
        assert!(put(&mut sink, &line).is_err());
        let next = spool.next(10).expect("read");
        spool.sent(&next, 1).expect("noted");
        assert!(spool.next(10).expect("read").lines.is_empty());
        put(&mut sink, &line).expect("room again");
        assert_eq!(spool.next(10).expect("read").lines, [line]);
    }
}
