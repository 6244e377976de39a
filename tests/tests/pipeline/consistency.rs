//! The consistency checker, short: a run in which parts are killed finds nothing, and one with a planted fault finds it. `make consistency` is the long form.

use std::time::Duration;

use e2e::consistency::faults::Parts;
use e2e::consistency::plant::Plant;
use e2e::consistency::subjects::View;
use e2e::consistency::{self, Outcome, Places, Settings};
use e2e::operate::Operator;
use e2e::process::Daemon;
use e2e::stack::Stack;

use crate::stack::shared;

/// How long the run writes that finds nothing, and the other one at most: it is over when it has found something.
const SPANS: [Duration; 2] = [Duration::from_secs(9), Duration::from_mins(2)];

async fn put_views(operator: &Operator) -> anyhow::Result<()> {
    for view in View::ALL {
        let file = consistency::views_folder().join(format!("{}.json", view.name()));
        let definition = serde_json::from_slice(&std::fs::read(file)?)?;
        operator.put_view(&definition).await?;
    }
    operator.all_active(Duration::from_mins(1)).await?;
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "the figures are what a reader of the run looks for"
)]
async fn run(
    stack: &mut Stack,
    second: &mut Daemon,
    places: &Places,
    settings: Settings,
) -> anyhow::Result<Outcome> {
    let parts = Parts {
        hapi: &mut stack.servers.hapi,
        redis: &mut stack.servers.redis,
        batch: &mut stack.batch,
        speed: &mut stack.speed,
        gateways: [&mut stack.serving, second],
    };
    let outcome = consistency::run(parts, places, &settings, |line| println!("{line}")).await?;
    println!("{}", outcome.line());
    Ok(outcome)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_hold_what_was_written_while_parts_are_killed_and_a_lost_row_is_found() -> anyhow::Result<()>
{
    let mut stack = shared().await?;
    let mut second = stack.another_gateway().await?;
    let places = Places::of(&stack, &second).await?;
    put_views(&places.operator).await?;
    let settings = Settings {
        seed: 7,
        span: SPANS[0],
        faults: true,
        hapi_too: false,
        plant: None,
        prefix: "right".to_owned(),
    };
    let right = run(&mut stack, &mut second, &places, settings.clone()).await?;
    assert!(
        right.is_right(),
        "{:?} {:#?}",
        right.too_little,
        right.tally.violations.iter().take(3).collect::<Vec<_>>()
    );
    consistency::clear(&places, "right").await?;
    let planted = Settings {
        span: SPANS[1],
        faults: false,
        plant: Some(Plant::LostRow),
        prefix: "planted".to_owned(),
        ..settings
    };
    let wrong = run(&mut stack, &mut second, &places, planted).await?;
    assert!(
        wrong.broken(Plant::LostRow.breaks()).count() > 0,
        "a row that is lost was not found: {:?}",
        wrong.tally
    );
    consistency::clear(&places, "planted").await?;
    for view in View::ALL {
        places.operator.drop_view(view.name()).await?;
    }
    Ok(())
}
