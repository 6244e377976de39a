//! How far a run is: figures, metrics, log.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use anyhow::Context as _;
use batch_refresher::{
    hapi::{IdRange, MetaRead},
    schedule::Schedule,
};
use fhir_core::resource::Content;
use view_store::RunKind;

use crate::{
    played::{PATIENT_VIEW, Played, patient},
    replica::{LIMIT, Replica, over},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_run_tells_how_far_it_is() -> anyhow::Result<()> {
    let played = Played::start().await?;
    played.put(PATIENT_VIEW).await?;
    for i in 0..300 {
        played
            .write(&format!("p{i}"), Some(&patient(&format!("F{i}"))))
            .await?;
    }
    let hapi = played.hapi().await?;
    played.write("p0", None).await?;
    assert_eq!(
        hapi.about_how_many("Patient").await?,
        300,
        "deleted ones are read too"
    );
    assert_eq!(hapi.about_how_many("Observation").await?, 0);
    played.execute("ANALYZE hfj_resource").await?;
    assert_eq!(hapi.estimated("Patient").await?, 300);
    // whoever counts waits no longer than this
    let mut held = played.writer.begin().await?;
    sqlx::raw_sql("LOCK TABLE hfj_resource IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *held)
        .await?;
    let limit = std::time::Duration::from_millis(50);
    assert_eq!(hapi.counted("Patient", limit).await?, None);
    held.rollback().await?;

    let replica = Replica::start(&played, Schedule::OnDemand, Schedule::OnDemand).await?;
    let mut stored = 0;
    // The view looks at nothing of meta, so no more of it is read.
    let meta = MetaRead {
        tags: false,
        source: false,
    };
    let mut chunks = std::pin::pin!(hapi.load("Patient", IdRange::split_at(&[])[0], meta));
    while let Some(chunk) = tokio_stream::StreamExt::next(&mut chunks).await {
        for state in chunk?.states() {
            if let Content::Body(body) = state.content {
                stored += body.len() as u64;
            }
        }
    }
    let figures = replica.run(RunKind::Full).await?.figures;
    assert_eq!((figures.read, figures.rows, figures.bytes), (300, 299, stored));
    assert_eq!(figures.total.map(|total| total >= 300), Some(true));
    // the gauges of a run go with it, the counters stay
    assert_eq!(replica.metric("researchflow_batch_run_resources_read{")?, None);
    assert_eq!(replica.metric("researchflow_batch_run_phase{")?, None);
    let counted = |name: &str| replica.metric(&format!("researchflow_batch_{name}{{type=\"Patient\"}}"));
    assert!(counted("rows_made_total")?.is_some_and(|rows| rows == "299" || rows == "598"));
    assert!(counted("read_bytes_total")?.is_some());

    played.write("p1", Some(&patient("Changed"))).await?;
    let status = replica.run(RunKind::Incremental).await?;
    assert_eq!(status.figures.total, Some(status.figures.read));
    replica.stop().await;
    Ok(())
}

/// Lines of a log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no test panics here").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("no test panics here")).into_owned()
    }
}

// On one thread, so that the log is that of this test.
#[tokio::test]
async fn a_run_that_takes_long_says_so_in_the_log_and_in_the_metrics() -> anyhow::Result<()> {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _log = tracing::subscriber::set_default(subscriber);
    let played = Played::start().await?;
    played.put(PATIENT_VIEW).await?;
    for id in ["planted-1", "planted-2"] {
        played.write(id, Some(&patient("Planted"))).await?;
    }
    let replica = Replica::start(&played, Schedule::OnDemand, Schedule::OnDemand).await?;
    replica.run(RunKind::Incremental).await?;
    let mut held = played.writer.begin().await?;
    sqlx::raw_sql("LOCK TABLE hfj_res_ver IN ACCESS EXCLUSIVE MODE")
        .execute(&mut *held)
        .await?;
    let mut run = replica.request(RunKind::Full)?;
    let line = e2e::deadline::until("the log to say how far the run is", LIMIT, || async {
        // A test on another thread, which has no log, may have been the first to come by a line.
        tracing::callsite::rebuild_interest_cache();
        let text = lines.text();
        let line = text.lines().find(|line| {
            ["refreshing", "kind=Full", "total=2"]
                .iter()
                .all(|said| line.contains(said))
        })?;
        Some(line.to_owned())
    })
    .await
    .with_context(|| lines.text())?;
    for said in [
        "resource_type=Patient",
        "kind=Full",
        "phase=Loading",
        "read=0",
        "rows=0",
        "bytes=0",
    ] {
        assert!(line.contains(said), "{said} is missing: {line}");
    }
    let metric = |name: &str| replica.metric(&format!("researchflow_batch_run_{name}"));
    assert_eq!(
        metric("resources_expected{type=\"Patient\"}")?.as_deref(),
        Some("2")
    );
    assert_eq!(metric("resources_read{type=\"Patient\"}")?.as_deref(), Some("0"));
    assert_eq!(
        metric("phase{type=\"Patient\",phase=\"Loading\"}")?.as_deref(),
        Some("1")
    );
    assert_eq!(
        metric("phase{type=\"Patient\",phase=\"Publishing\"}")?.as_deref(),
        Some("0")
    );
    held.rollback().await?;
    over(&mut run).await?;
    assert_eq!(metric("phase{type=\"Patient\",phase=\"Loading\"}")?, None);
    replica.stop().await;
    let text = lines.text();
    assert!(
        text.contains("refreshed") && text.contains("differences=0"),
        "{text}"
    );
    assert!(!text.to_lowercase().contains("planted"), "law 9: {text}");
    Ok(())
}
