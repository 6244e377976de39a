//! Loads of full and joining runs: broken off and gone on with, shared, and read from several snapshots.

use std::time::Duration;

use anyhow::Context as _;
use batch_refresher::{
    hapi::Hapi,
    run::{Ranges, RefreshRun, RunSettings, Step, share},
};
use e2e::deadline;
use view_store::{RunKind, SlicePlan};

use crate::played::{ANOTHER_VIEW, PATIENT_VIEW, Played, patient};

/// How long a server may take to notice that a session is gone.
const LIMIT: Duration = Duration::from_secs(20);

fn settings(ranges: Ranges) -> RunSettings {
    RunSettings {
        ranges,
        workers: 2,
        resume: true,
        slice: SlicePlan {
            resources: 500,
            unchanged_too: false,
        },
    }
}

async fn start(played: &Played, hapi: &Hapi, kind: RunKind, ranges: Ranges) -> anyhow::Result<RefreshRun> {
    deadline::until("the run lock is free", LIMIT, || async {
        RefreshRun::start(hapi, &played.store, "Patient", kind, settings(ranges.clone()))
            .await
            .ok()?
    })
    .await
}

async fn finish(mut run: RefreshRun) -> anyhow::Result<()> {
    loop {
        match run.step().await? {
            Step::More => {}
            Step::Finished => return Ok(run.end().await?),
            other => anyhow::bail!("the run ended: {other:?}"),
        }
    }
}

/// Loads, ranges that are done, and tables of the staging area.
pub(crate) async fn left(played: &Played) -> anyhow::Result<String> {
    let counts = "SELECT (SELECT count(*) FROM sqlonfhir_meta.load) AS loads, (SELECT count(*) FROM sqlonfhir_meta.load_range WHERE done) AS done, \
                  (SELECT count(*) FROM pg_class WHERE relnamespace = 'sqlonfhir_stage'::regnamespace) AS tables";
    Ok(played.shown(counts).await?.concat())
}

/// Row number of a patient.
async fn place(played: &Played, id: &str) -> anyhow::Result<i64> {
    Ok(
        sqlx::query_scalar("SELECT res_id FROM hfj_resource WHERE fhir_id = $1")
            .bind(id)
            .fetch_one(&played.writer)
            .await?,
    )
}

#[tokio::test]
async fn a_load_that_is_broken_off_is_gone_on_with_and_leaves_nothing_behind() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let hapi = played.hapi().await?;
    played.put(PATIENT_VIEW).await?;
    for id in ["a", "b", "c", "d"] {
        played.write(id, Some(&patient(id))).await?;
    }
    let ranges = Ranges::At(vec![place(&played, "b").await?, place(&played, "c").await?]);
    for kind in [RunKind::Join, RunKind::Full] {
        let mut run = start(&played, &hapi, kind, ranges.clone()).await?;
        // The first reading and two of three ranges.
        for _ in 0..4 {
            assert_eq!(run.step().await?, Step::More);
        }
        drop(run);
        assert!(
            left(&played).await?.starts_with("(1,2,"),
            "{}",
            left(&played).await?
        );
        // Of a range that is done, and of one that is not.
        played
            .write("a", Some(&patient(&format!("a after {kind:?}"))))
            .await?;
        played
            .write("d", Some(&patient(&format!("d after {kind:?}"))))
            .await?;

        let run = start(&played, &hapi, kind, ranges.clone()).await?;
        let progress = run.progress();
        assert!(left(&played).await?.starts_with("(1,2,"), "the load is the same");
        finish(run).await?;
        // Two of the load that was gone on with, two in the last range, and what has changed.
        assert_eq!(progress.figures().read, 2 + 2 + 2);
        let names = played.names().await?.join(" ");
        assert_eq!(
            names,
            format!(
                "(a,female,\"a after {kind:?}\") (b,female,b) (c,female,c) (d,female,\"d after {kind:?}\")"
            )
        );
        assert_eq!(left(&played).await?, "(0,0,0)");
    }
    Ok(())
}

#[tokio::test]
async fn a_load_of_something_else_is_begun_anew() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let hapi = played.hapi().await?;
    played.put(PATIENT_VIEW).await?;
    played.write("a", Some(&patient("a"))).await?;
    let broken_off = async |changed: &str| {
        let mut run = start(&played, &hapi, RunKind::Join, Ranges::Of(100)).await?;
        for _ in 0..3 {
            assert_eq!(run.step().await?, Step::More);
        }
        drop(run);
        let before = played.shown("SELECT token FROM sqlonfhir_meta.load").await?;
        let mut views = sqlx::PgPool::connect(&played.views_url).await?.acquire().await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(
            changed.replace("{}", before.concat().trim_matches(['(', ')'])),
        ))
        .execute(&mut *views)
        .await?;
        anyhow::Ok(before)
    };
    // As PostgreSQL leaves it after a crash: tables that are not logged are empty.
    let before = broken_off("TRUNCATE sqlonfhir_stage.load{}_life").await?;
    let run = start(&played, &hapi, RunKind::Join, Ranges::Of(100)).await?;
    assert_ne!(
        played.shown("SELECT token FROM sqlonfhir_meta.load").await?,
        before
    );
    drop(run);
    // Another view has come.
    let before = broken_off("SELECT 1").await?;
    played.put(ANOTHER_VIEW).await?;
    let run = start(&played, &hapi, RunKind::Join, Ranges::Of(100)).await?;
    assert_ne!(
        played.shown("SELECT token FROM sqlonfhir_meta.load").await?,
        before
    );
    finish(run).await?;
    assert_eq!(played.names().await?, ["(a,female,a)"]);
    assert_eq!(left(&played).await?, "(0,0,0)");
    Ok(())
}

#[tokio::test]
async fn law_4_no_gap_no_double_created_again_between_two_ranges() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let hapi = played.hapi().await?;
    played.put(PATIENT_VIEW).await?;
    for id in ["a", "b"] {
        played.write(id, Some(&patient("old"))).await?;
    }
    let ranges = Ranges::At(vec![place(&played, "b").await?]);
    for kind in [RunKind::Join, RunKind::Full] {
        let mut run = start(&played, &hapi, kind, ranges.clone()).await?;
        for _ in 0..3 {
            assert_eq!(run.step().await?, Step::More);
        }
        // Its first incarnation is loaded; the second lies in the other range.
        let place = place(&played, "a").await?;
        for table in ["hfj_res_ver", "hfj_resource"] {
            played
                .execute(&format!("DELETE FROM {table} WHERE res_id = {place}"))
                .await?;
        }
        played.write("a", Some(&patient("new"))).await?;
        finish(run).await?;
        assert_eq!(played.names().await?, ["(a,female,new)", "(b,female,old)"]);
    }
    Ok(())
}

#[tokio::test]
async fn replicas_share_the_ranges_and_one_that_dies_gives_its_range_back() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let hapi = played.hapi().await?;
    played.put(PATIENT_VIEW).await?;
    for i in 0..300 {
        played.write(&format!("p{i:03}"), Some(&patient("x"))).await?;
    }
    let mut run = start(&played, &hapi, RunKind::Join, Ranges::Of(50)).await?;
    for _ in 0..2 {
        assert_eq!(run.step().await?, Step::More);
    }
    let mut other = run.load().context("a joining run has a load")?.loader().await?;
    assert!(other.next().await?.is_some());
    // It finds the load by itself, as a worker that is told that the type is busy does.
    let helper = {
        let (hapi, store) = (hapi.clone(), played.store.clone());
        tokio::spawn(async move { share(&hapi, &store, "Patient", 2).await })
    };
    let run = tokio::spawn(finish(run));
    deadline::until("all other ranges are done", LIMIT, || async {
        let open = played
            .shown("SELECT count(*) FROM sqlonfhir_meta.load_range WHERE NOT done")
            .await
            .ok()?;
        (open == ["(1)"]).then_some(())
    })
    .await?;
    assert!(!run.is_finished(), "what another is at is waited for");
    drop(other);
    run.await??;
    helper.await??;
    assert_eq!(played.names().await?.len(), 300);
    assert_eq!(left(&played).await?, "(0,0,0)");
    Ok(())
}

#[tokio::test]
async fn law_2_a_load_has_of_meta_what_the_views_look_at() -> anyhow::Result<()> {
    const META: &str = r#"{
        "resourceType": "ViewDefinition", "name": "META", "status": "active", "resource": "Patient",
        "select": [{"column": [{"name": "found", "path": "PATH", "type": "string"}]}]}"#;
    let played = Played::start().await?;
    let hapi = played.hapi().await?;
    played.write("a", Some(&patient("a"))).await?;
    played
        .execute(
            "UPDATE hfj_resource SET has_tags = true; \
             INSERT INTO hfj_tag_def (tag_id, tag_type, tag_system, tag_code) VALUES (1, 1, 'profile', 'http://p'), (2, 2, 'http://s', 'R'), (3, 0, 'http://t', 'T'); \
             INSERT INTO hfj_res_tag (pid, tag_id, res_id, res_type) SELECT tag_id, tag_id, res_id, 'Patient' FROM hfj_tag_def, hfj_resource",
        )
        .await?;
    // One view a run, so that what another one looks at does not help.
    for (name, path, expected) in [
        ("versions", "meta.versionId", "(1)"),
        ("sources", "meta.source", "(#Rq1)"),
        ("profiles", "meta.profile.first()", "(http://p)"),
        ("labels", "meta.security.code.first()", "(R)"),
        ("tags", "meta.where(tag.exists()).tag.code.first()", "(T)"),
        (
            "all",
            "descendants().where($this is uri).where($this = 'http://t').first()",
            "(http://t)",
        ),
    ] {
        played
            .put(&META.replace("META", name).replace("PATH", path))
            .await?;
        finish(start(&played, &hapi, RunKind::Join, Ranges::Of(100)).await?).await?;
        let found = played
            .shown(&format!("SELECT found FROM sqlonfhir.\"{name}\""))
            .await?;
        assert_eq!(found, [expected], "{name}");
        played.store.drop_view(name).await?;
    }
    Ok(())
}

/// The tables are joined by us where there are few old versions, by PostgreSQL where there are many.
#[tokio::test]
async fn law_2_current_versions_are_loaded_however_many_old_ones_there_are() -> anyhow::Result<()> {
    for updates in [0, 4] {
        let played = Played::start().await?;
        let hapi = played.hapi().await?;
        played.put(PATIENT_VIEW).await?;
        for number in 0..40 {
            let id = format!("p{number:02}");
            for _ in 0..updates {
                played.write(&id, Some(&patient("old"))).await?;
            }
            played.write(&id, Some(&patient("new"))).await?;
        }
        played.write("p03", None).await?;
        // The row of its current version was expunged: the next lower one counts.
        played.write("p05", Some(&patient("lower"))).await?;
        let expunged = played.write("p05", Some(&patient("gone"))).await?;
        let place = place(&played, "p05").await?;
        played
            .execute(&format!(
                "DELETE FROM hfj_res_ver WHERE res_id = {place} AND res_ver = {expunged}"
            ))
            .await?;
        for kind in [RunKind::Join, RunKind::Full] {
            finish(start(&played, &hapi, kind, Ranges::Of(20)).await?).await?;
            let expected: Vec<String> = (0..40)
                .filter(|number| *number != 3)
                .map(|number| {
                    let family = if number == 5 { "lower" } else { "new" };
                    format!("(p{number:02},female,{family})")
                })
                .collect();
            assert_eq!(played.names().await?, expected, "{updates} {kind:?}");
        }
    }
    Ok(())
}

/// More than are in memory at a time: a range is read in parts, without a gap or a double where they meet.
#[tokio::test]
async fn law_4_no_gap_no_double_between_the_parts_of_a_long_range() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let hapi = played.hapi().await?;
    played.put(PATIENT_VIEW).await?;
    played.write("first", Some(&patient("first"))).await?;
    // As the first one, many times, with a gap between the row numbers.
    let copied = |table: &str, keys: &str| {
        format!(
            "INSERT INTO {table} SELECT (jsonb_populate_record(t, {keys})).* FROM {table} t, generate_series(1, 50010) n"
        )
    };
    for (table, keys) in [
        (
            "hfj_resource",
            "jsonb_build_object('res_id', 1000000 + 2 * n, 'fhir_id', 'n' || n)",
        ),
        (
            "hfj_res_ver",
            "jsonb_build_object('pid', 1000000 + n, 'res_id', 1000000 + 2 * n)",
        ),
    ] {
        played.execute(&copied(table, keys)).await?;
    }
    finish(start(&played, &hapi, RunKind::Join, Ranges::At(Vec::new())).await?).await?;
    let counts = "SELECT count(*), count(DISTINCT id) FROM sqlonfhir.patient_names";
    assert_eq!(played.shown(counts).await?, ["(50011,50011)"]);
    Ok(())
}
