//! `make consistency`: an installation of its own, held to what is written to it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use e2e::consistency::faults::Parts;
use e2e::consistency::plant::Plant;
use e2e::consistency::{self, Outcome, Places, Settings};
use e2e::stack::{Options, Stack};

/// How often HAPI sends webhooks here: ten times as often as by default, so that many previews are shown.
const POLLING: Duration = Duration::from_millis(500);

/// Violations that are told in full.
const TOLD: usize = 12;

#[derive(Debug, Parser)]
#[command(
    about = "Writes to a real HAPI, refreshes, kills every part but PostgreSQL, and holds every answer to what was written"
)]
struct Arguments {
    /// Of all that is left to chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long HAPI is written to
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Faults to plant in the views' database, each in a run of its own that must end with violations
    #[arg(long, value_delimiter = ',')]
    plant: Vec<Plant>,
    /// Leaves everything alive
    #[arg(long)]
    no_faults: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("FAILED: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether all runs were right.
async fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    say("starting PostgreSQL, Redis, HAPI, batch-refresher, speed-ingestor and two serving-gateways");
    let options = Options {
        polling: Some(POLLING),
        refresh_interval_seconds: 7,
        views: consistency::views_folder(),
        ..Options::default()
    };
    let mut stack = Stack::start(&options).await?;
    let mut second = stack.another_gateway().await?;
    let places = Places::of(&stack, &second).await?;
    places.operator.all_active(Duration::from_mins(1)).await?;
    let plants = if arguments.plant.is_empty() {
        vec![None]
    } else {
        arguments.plant.iter().copied().map(Some).collect()
    };
    let mut right = true;
    for (number, plant) in plants.into_iter().enumerate() {
        let settings = Settings {
            seed: arguments.seed,
            span: Duration::from_secs_f64(arguments.minutes * 60.0),
            faults: !arguments.no_faults,
            hapi_too: true,
            plant,
            prefix: format!("run-{number}"),
        };
        say(&format!("running, {settings:?}"));
        let parts = Parts {
            hapi: &mut stack.servers.hapi,
            redis: &mut stack.servers.redis,
            batch: &mut stack.batch,
            speed: &mut stack.speed,
            gateways: [&mut stack.serving, &mut second],
        };
        let outcome = consistency::run(parts, &places, &settings, say).await?;
        right &= outcome.is_right();
        tell(&outcome);
        if let Some(plant) = plant {
            let found = outcome.broken(plant.breaks()).count();
            say(&format!(
                "PLANTED {plant:?}, {} rows touched: {found} violations of {}",
                outcome.tally.planted,
                plant.breaks().name()
            ));
        }
        consistency::clear(&places, &settings.prefix).await?;
    }
    Ok(right)
}

fn tell(outcome: &Outcome) {
    let violations = &outcome.tally.violations;
    for violation in violations.iter().take(TOLD) {
        say(&format!(
            "VIOLATION of {}: {}",
            violation.rule.name(),
            violation.text
        ));
    }
    if violations.len() > TOLD {
        say(&format!("and {} more", violations.len() - TOLD));
    }
    for little in &outcome.too_little {
        say(&format!("TOO LITTLE was looked at: {little}"));
    }
    let mut rules: BTreeMap<&str, usize> = BTreeMap::new();
    for violation in violations {
        *rules.entry(violation.rule.name()).or_default() += 1;
    }
    if !rules.is_empty() {
        say(&format!("broken: {rules:?}"));
    }
    let kinds: Vec<String> = outcome
        .tally
        .answers
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    say(&format!("answers: {}", kinds.join(", ")));
    say(&format!(
        "states of resources judged: {}; latest beyond max_staleness: {} ms",
        outcome.judged, outcome.tally.beyond_staleness_ms
    ));
    say(&outcome.line());
}

/// Nobody may listen.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
