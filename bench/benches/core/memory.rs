//! Peak memory of a stream of resources: it must not grow with the stream.

use std::{path::Path, process::Command};

use fhir_core::view::ViewSet;

use crate::{Corpus, Failure, View, rows};

/// Streams so many megabytes through views, and prints the peak of the resident memory in kB.
pub(crate) fn run(views: Vec<View>, data: &Path, megabytes: usize) -> Result<(), Failure> {
    let resource_type = views
        .first()
        .ok_or("the name of a view is missing")?
        .resource_type();
    // The stream repeats a small part of the data, which is all that stays in memory.
    let corpus = Corpus::beginning(data, resource_type, 1 << 20)?;
    let set = ViewSet::new(views);
    let mut left = megabytes << 20;
    while left > 0 {
        std::hint::black_box(rows(&set, &corpus, 0..corpus.len()));
        left = left.saturating_sub(corpus.bytes());
    }
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    println!(
        "{}",
        peak.ok_or("no VmHWM in /proc/self/status")?
            .trim()
            .trim_end_matches(" kB")
    );
    Ok(())
}

/// The peak at 500 MB beside the peak at 10 MB, each in a process of its own.
pub(crate) fn compare(data: &Path, views: &Path) -> Result<(), Failure> {
    let peak = |megabytes: &str| -> Result<f64, Failure> {
        let output = Command::new(std::env::current_exe()?)
            .args([data, views])
            .args([megabytes, "observation_lab"])
            .output()?;
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    };
    let (small, large) = (peak("10")?, peak("500")?);
    println!(
        "peak memory: {:.0} MB for 10 MB, {:.0} MB for 500 MB",
        small / 1e3,
        large / 1e3
    );
    println!(
        "RATIO peak_memory_500_MB_vs_10_MB {:.2} (budget 1.1)",
        large / small
    );
    Ok(())
}
