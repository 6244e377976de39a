//! What is told, and how.

use std::io::Write;
use std::time::{Duration, Instant};

/// Tells a story on standard output, chapter by chapter.
#[derive(Debug)]
pub(crate) struct Story {
    start: Instant,
    chapters: u32,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            chapters: 0,
        }
    }

    /// Says a line. Nobody may listen.
    #[expect(clippy::unused_self, reason = "only who has the story tells it")]
    pub(crate) fn say(&self, line: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }

    /// Begins a chapter.
    pub(crate) fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        let since = self.start.elapsed().as_secs();
        self.say(&format!("\n{}. {title}  [{since} s]", self.chapters));
    }

    /// Says a line that belongs to the chapter.
    pub(crate) fn tell(&self, line: &str) {
        self.say(&format!("   {line}"));
    }
}

/// A span in whole milliseconds, as people read it.
pub(crate) fn ms(span: Duration) -> String {
    format!("{} ms", span.as_millis())
}
