//! How figures are printed.

use std::time::Duration;

/// A ratio of two times, with both.
pub(crate) fn ratio(name: &str, above: Duration, below: Duration) {
    let (above, below) = (above.as_secs_f64(), below.as_secs_f64());
    println!("RATIO {name} {:.2} ({above:.2} s / {below:.2} s)", above / below);
}

/// How fast so much went.
pub(crate) fn speed(resources: u64, bytes: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64();
    format!(
        "{seconds:.2} s, {:.0} resources/s, {:.1} MB/s",
        resources as f64 / seconds,
        bytes as f64 / 1e6 / seconds
    )
}

/// Times in the order in which they were taken.
pub(crate) fn listed(times: &[Duration]) -> String {
    let times: Vec<String> = times.iter().map(|t| format!("{:.2}", t.as_secs_f64())).collect();
    times.join(" ")
}

/// The one in the middle.
pub(crate) fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// Rounds of each side. The first one also pays for what nobody has read since the tables were filled: it must not be the median of two.
pub(crate) const ROUNDS: usize = 3;
