//! Times, and the lines that tell them.

use std::time::Duration;

/// Times of one thing, sorted.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// In milliseconds.
    pub(crate) fn percentile(&self, hundredths: usize) -> f64 {
        let place = self.0.len() * hundredths / 100;
        let time = self.0.get(place.min(self.0.len().saturating_sub(1)));
        time.copied().unwrap_or_default().as_secs_f64() * 1e3
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

/// One ratio, of times in milliseconds.
pub(crate) fn ratio(name: &str, ours: f64, theirs: f64) {
    println!(
        "RATIO {name} {:.2} ({ours:.2} ms / {theirs:.2} ms)",
        ours / theirs
    );
}

/// The middle one.
pub(crate) fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    Times::of(times).percentile(50)
}
