//! `make bench-core`: the evaluator beside the fastest JSON parsers in use, over real data, in one run.
//!
//! Prints MB/s of each, and ratios: how fast rows are made, compared with only parsing the same text. Arguments: a folder of
//! `{Type}.ndjson.gz`, a folder of `{name}.vd.json`. Figures are medians of interleaved rounds, of time on a core for
//! one thread and of elapsed time for two. With a number of megabytes and names of views of one type, that much is streamed through them and
//! nothing else is done: for the peak of memory, and for profiles.
#![expect(clippy::print_stdout, reason = "the figures are this program's output")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]
#![expect(clippy::expect_used, reason = "a measurement of what fails is none")]

mod corpus;
mod memory;
mod sink;

use std::{
    error::Error,
    hint::black_box,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use corpus::Corpus;
use fhir_core::{
    json::Tape,
    view::{CompiledView, ViewSet},
};
use sink::Columns;

type Failure = Box<dyn Error>;
type View = std::sync::Arc<CompiledView>;

/// What is timed.
type Run<'r> = Box<dyn FnMut() + 'r>;

/// Rounds of each figure.
const ROUNDS: usize = 7;

/// Text of a type, at least.
const SIZE: usize = 100 << 20;

/// Resources between two looks at how full the batches of rows are.
const BATCH: usize = 64;

/// What the views must reach, of the speed of only parsing.
const BUDGETS: [(&str, f64); 5] = [
    ("observation_lab", 0.6),
    ("patient_demographics", 0.6),
    ("condition_flat", 0.5),
    ("observation_bloodpressure", 0.6),
    ("encounter_flat", 0.5),
];

/// Views that real installations keep beside each other: each takes some of the observations.
const MORE: [&str; 3] = [
    include_str!("../../views/vital_signs.vd.json"),
    include_str!("../../views/body_weight.vd.json"),
    include_str!("../../views/smoking_status.vd.json"),
];

fn main() -> Result<(), Failure> {
    // `cargo bench` adds flags of its own.
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let [data, views, rest @ ..] = arguments.as_slice() else {
        return Err(
            "usage: make bench-core DATA=<folder of {Type}.ndjson.gz> VIEWS=<folder of {name}.vd.json>"
                .into(),
        );
    };
    let (data, views) = (Path::new(data), PathBuf::from(views));
    let view = |name: &str| -> Result<View, Failure> {
        let json = std::fs::read_to_string(views.join(format!("{name}.vd.json")))?;
        Ok(CompiledView::from_json(&json)?.into())
    };
    if let [megabytes, names @ ..] = rest {
        let streamed = names.iter().map(|name| view(name)).collect::<Result<_, _>>()?;
        return memory::run(streamed, data, megabytes.parse()?);
    }
    for (name, budget) in BUDGETS {
        against_parsers(&view(name)?, data, budget)?;
    }
    let lab = view("observation_lab")?;
    let mut five = vec![lab.clone(), view("observation_bloodpressure")?];
    for json in MORE {
        five.push(CompiledView::from_json(json)?.into());
    }
    together(&lab, five, data)?;
    threads(&lab, data)?;
    memory::compare(data, &views)
}

/// One view, beside parsers that read the same lines and keep nothing.
fn against_parsers(view: &View, data: &Path, budget: f64) -> Result<(), Failure> {
    let corpus = Corpus::read(data, view.resource_type(), SIZE)?;
    let set = ViewSet::new([view.clone()]);
    let made = rows(&set, &corpus, 0..corpus.len());
    if made == 0 {
        return Err(format!("{} has no rows of these data", view.name()).into());
    }
    let mut runs: [Run<'_>; 3] = [
        Box::new(|| sonic(&corpus)),
        Box::new(|| simd(&corpus)),
        Box::new(|| {
            black_box(rows(&set, &corpus, 0..corpus.len()));
        }),
    ];
    let times = interleaved(on_core, &mut runs);
    let speed = |time: Duration| corpus.bytes() as f64 / time.as_secs_f64() / 1e6;
    let (sonic, simd, ours) = (speed(times[0]), speed(times[1]), speed(times[2]));
    let name = view.name();
    println!(
        "{name}: {ours:.0} MB/s, {made} rows of {} resources; parse only: sonic-rs {sonic:.0} MB/s, simd-json {simd:.0} MB/s",
        corpus.len()
    );
    println!(
        "RATIO {name}_vs_parse {:.2} (budget {budget})",
        ours / sonic.max(simd)
    );
    Ok(())
}

/// Five views of a type in one pass, beside one of them.
fn together(one: &View, five: Vec<View>, data: &Path) -> Result<(), Failure> {
    let corpus = Corpus::read(data, one.resource_type(), SIZE)?;
    let (one, five) = (ViewSet::new([one.clone()]), ViewSet::new(five));
    let mut runs: [Run<'_>; 2] = [
        Box::new(|| {
            black_box(rows(&one, &corpus, 0..corpus.len()));
        }),
        Box::new(|| {
            black_box(rows(&five, &corpus, 0..corpus.len()));
        }),
    ];
    let times = interleaved(on_core, &mut runs);
    println!(
        "RATIO five_views_one_pass_vs_one_view {:.2} (budget 1.5, time)",
        times[1].as_secs_f64() / times[0].as_secs_f64()
    );
    Ok(())
}

/// Two threads, each with half of the resources, beside one with all.
fn threads(view: &View, data: &Path) -> Result<(), Failure> {
    let corpus = Corpus::read(data, view.resource_type(), SIZE)?;
    let set = ViewSet::new([view.clone()]);
    let half = corpus.len() / 2;
    let mut runs: [Run<'_>; 2] = [
        Box::new(|| {
            black_box(rows(&set, &corpus, 0..corpus.len()));
        }),
        Box::new(|| {
            std::thread::scope(|scope| {
                scope.spawn(|| black_box(rows(&set, &corpus, 0..half)));
                black_box(rows(&set, &corpus, half..corpus.len()));
            });
        }),
    ];
    let times = interleaved(elapsed, &mut runs);
    println!(
        "RATIO two_threads_vs_one {:.2} (budget 1.8)",
        times[0].as_secs_f64() / times[1].as_secs_f64()
    );
    Ok(())
}

/// Time that this thread has been running on a core: what others take of a busy machine does not count.
fn on_core() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// Time that has elapsed.
fn elapsed() -> Duration {
    static START: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
    START.elapsed()
}

/// The median time of each, run in turn, by a clock.
fn interleaved(clock: fn() -> Duration, runs: &mut [Run<'_>]) -> Vec<Duration> {
    let mut times = vec![Vec::new(); runs.len()];
    for _ in 0..ROUNDS {
        for (run, times) in runs.iter_mut().zip(&mut times) {
            let start = clock();
            run();
            times.push(clock().saturating_sub(start));
        }
    }
    times
        .into_iter()
        .map(|mut times| {
            times.sort_unstable();
            times[times.len() / 2]
        })
        .collect()
}

fn sonic(corpus: &Corpus) {
    for line in corpus.lines(0..corpus.len()) {
        black_box(sonic_rs::from_slice::<sonic_rs::Value>(line).is_ok());
    }
}

fn simd(corpus: &Corpus) {
    let mut buffers = simd_json::Buffers::default();
    let mut copy = Vec::new();
    for line in corpus.lines(0..corpus.len()) {
        // It decodes strings in place.
        copy.clear();
        copy.extend_from_slice(line);
        let mut tape = simd_json::Tape::null();
        black_box(simd_json::fill_tape(&mut copy, &mut buffers, &mut tape).is_ok());
    }
}

/// Rows of all views of the set.
pub(crate) fn rows(set: &ViewSet, corpus: &Corpus, range: std::ops::Range<usize>) -> usize {
    let mut tape = Tape::default();
    let mut sinks: Vec<_> = set
        .views()
        .iter()
        .map(|view| Columns::new(view.columns().len()))
        .collect();
    let mut count = 0;
    for (number, line) in corpus.lines(range).enumerate() {
        let reading = set.read(&mut tape, line).expect("the data are resources");
        for (view, sink) in sinks.iter_mut().enumerate() {
            count += reading.rows(view, sink).expect("the view fits the data");
        }
        if number % BATCH == 0 {
            sinks.iter_mut().for_each(Columns::empty_if_full);
        }
    }
    count
}
