//! Batch, live and raw rows; a layer that fails; a gateway that ends.

use std::time::Duration;

use anyhow::Context as _;
use api::proto::serving::{
    DegradationReason as Reason, FreshnessDemand, GetStatisticsRequest, Layers, Operator, Order,
    QueryRequest, Source, value::Kind,
};
use e2e::deadline;
use fhir_core::resource::{Content, State};
use fhir_core::view::CompiledView;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;
use view_store::RunKind;

use crate::fakes::PATIENCE;
use crate::fixture::{
    CONDITION, Fixture, all, compare, condition, join, join_type, mark, now, put, search, server, three,
};

#[tokio::test]
async fn live_changes_are_in_merged_answers_and_not_in_batch_ones() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    fixture
        .speed
        .preview(CONDITION, condition("c-4", 1, "p-3", "400", "new", "4"), now());
    let live = fixture.until_ids(&["c-1", "c-2", "c-3", "c-4"]).await?;
    assert_eq!((live.footer().batch_rows, live.footer().speed_rows), (3, 1));

    let changed = condition("c-1", 2, "p-1", "101", "changed", "1");
    let deleted = State {
        id: "c-2".into(),
        version: 3,
        last_updated: now(),
        content: Content::Deleted,
    };
    let confirmed = condition("c-4", 1, "p-3", "400", "new", "4");
    fixture
        .speed
        .round(CONDITION, vec![changed, deleted, confirmed], mark(5));
    let merged = fixture.until_ids(&["c-1", "c-3", "c-4"]).await?;
    assert!(
        merged
            .rows
            .iter()
            .any(|row| row[3] == Some(Kind::Text("101".into())))
    );
    let freshness = merged.freshness();
    assert!(
        freshness.speed_as_of.is_some()
            && freshness.as_of == freshness.speed_as_of
            && freshness.batch_as_of.is_some()
    );
    assert_eq!(freshness.source(), Source::Materialized);

    let demand = FreshnessDemand {
        layers: Layers::Batch.into(),
        ..Default::default()
    };
    let batch = fixture
        .ask(QueryRequest {
            freshness: Some(demand),
            ..all()
        })
        .await?;
    assert_eq!(batch.ids(), ["c-1", "c-2", "c-3"]);
    assert!(batch.degradations().contains(&Reason::SpeedLayerOff));
    let freshness = batch.freshness();
    assert!(freshness.speed_as_of.is_none() && freshness.as_of == freshness.batch_as_of);
    assert!(
        fixture
            .gateway
            .metrics
            .encode()?
            .contains("event_to_visible_seconds_count")
    );
    Ok(())
}

#[tokio::test]
async fn a_resource_that_cannot_be_evaluated_does_not_stop_the_stream() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let bad = |id: &str, content| State {
        id: id.into(),
        version: 2,
        last_updated: now(),
        content,
    };
    let states = vec![
        bad("c-1", Content::Unreadable("in an external store".into())),
        bad(
            "c-2",
            Content::Body(
                b"{\"resourceType\":\"Condition\",\"id\":\"c-2\",\"code\":{\"text\":\"a\\u0000b\"}}".to_vec(),
            ),
        ),
        bad("c-3", Content::Body(b"not json".to_vec())),
        condition("c-5", 1, "p-1", "500", "good", "1e400000"),
        condition("c-6", 1, "p-1", "600", "good", "1"),
    ];
    fixture.speed.round(CONDITION, states, mark(5));
    let answer = fixture.until_ids(&["c-6"]).await?;
    assert!(answer.degradations().contains(&Reason::EvaluationErrors));
    let said = answer.freshness().degradations;
    assert!(
        said.iter().any(|one| one.detail.starts_with("4 resources")),
        "{said:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_row_that_the_database_refuses_does_not_stop_the_stream() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let mut owner = PgConnection::connect(&fixture.owner_url).await?;
    sqlx::raw_sql("ALTER TABLE sqlonfhir_live.conditions ADD CONSTRAINT refused CHECK (code <> '666')")
        .execute(&mut owner)
        .await?;
    let states = vec![
        condition("c-4", 1, "p-1", "400", "good", "1"),
        condition("c-5", 1, "p-1", "666", "refused", "1"),
        condition("c-6", 1, "p-1", "600", "good", "1"),
    ];
    fixture.speed.round(CONDITION, states, mark(5));
    let answer = fixture.until_ids(&["c-1", "c-2", "c-3", "c-4", "c-6"]).await?;
    assert!(answer.degradations().contains(&Reason::EvaluationErrors));
    fixture.speed.preview(
        CONDITION,
        condition("c-7", 1, "p-1", "666", "refused", "1"),
        now(),
    );
    fixture.speed.round(
        CONDITION,
        vec![condition("c-8", 1, "p-1", "800", "good", "1")],
        mark(6),
    );
    fixture
        .until_ids(&["c-1", "c-2", "c-3", "c-4", "c-6", "c-8"])
        .await?;
    Ok(())
}

/// Makes the insertion of a live row with the code 666 fail as a cancelled statement does, so many times.
async fn cancel(owner_url: &str, times: u32) -> anyhow::Result<()> {
    let sql = format!(
        "CREATE SEQUENCE sqlonfhir_live.attempts; \
         CREATE FUNCTION sqlonfhir_live.cancel() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
           IF NEW.code = '666' AND nextval('sqlonfhir_live.attempts') <= {times} THEN \
             RAISE EXCEPTION 'canceling statement due to user request' USING ERRCODE = 'query_canceled'; \
           END IF; RETURN NEW; END $$; \
         CREATE TRIGGER cancel BEFORE INSERT ON sqlonfhir_live.conditions FOR EACH ROW EXECUTE FUNCTION sqlonfhir_live.cancel()"
    );
    let mut owner = PgConnection::connect(owner_url).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
        .execute(&mut owner)
        .await?;
    Ok(())
}

#[tokio::test]
async fn law_1_a_page_that_is_broken_off_costs_no_resource_its_rows() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    cancel(&fixture.owner_url, 4).await?;
    let states = vec![
        condition("c-4", 1, "p-1", "400", "good", "1"),
        condition("c-5", 1, "p-1", "666", "good too", "1"),
        condition("c-6", 1, "p-1", "600", "good", "1"),
    ];
    fixture.speed.round(CONDITION, states, mark(5));
    let answer = fixture
        .until_ids(&["c-1", "c-2", "c-3", "c-4", "c-5", "c-6"])
        .await?;
    assert!(!answer.degradations().contains(&Reason::EvaluationErrors));
    Ok(())
}

#[tokio::test]
async fn law_7_one_type_that_cannot_be_applied_does_not_stop_the_others() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    // Its name comes after the other's, and so does its turn.
    let text = r#"{"resourceType": "ViewDefinition", "name": "patients", "resource": "Patient", "status": "active",
        "select": [{"column": [{"name": "id", "path": "getResourceKey()"}]}]}"#;
    fixture
        .owner
        .put_view(&CompiledView::from_json(text)?, text, false)
        .await?;
    join_type(&fixture.owner, "Patient", 2, &[]).await?;
    cancel(&fixture.owner_url, 1_000_000).await?;
    let patient = |version: i64| State {
        id: "p-9".into(),
        version,
        last_updated: now(),
        content: Content::Body(br#"{"resourceType":"Patient","id":"p-9"}"#.to_vec()),
    };
    let refused = condition("c-4", 1, "p-1", "666", "refused", "1");
    fixture.speed.round(CONDITION, vec![refused], mark(5));
    fixture.speed.round("Patient", vec![patient(1)], mark(6));
    let patients = || async {
        let asked = QueryRequest {
            view: "patients".into(),
            ..Default::default()
        };
        let answer = fixture.ask(asked).await.ok()?;
        (answer.ids() == ["p-9"]).then_some(())
    };
    deadline::until("the other type is applied", PATIENCE, patients).await?;
    assert_eq!(fixture.owner.type_state(CONDITION).await?.speed, None);

    // Once it can be, it is.
    let mut owner = PgConnection::connect(&fixture.owner_url).await?;
    sqlx::raw_sql("DROP TRIGGER cancel ON sqlonfhir_live.conditions")
        .execute(&mut owner)
        .await?;
    fixture.until_ids(&["c-1", "c-2", "c-3", "c-4"]).await?;
    Ok(())
}

#[tokio::test]
async fn a_type_that_another_has_locked_does_not_stop_the_others() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let text = r#"{"resourceType": "ViewDefinition", "name": "patients", "resource": "Patient", "status": "active",
        "select": [{"column": [{"name": "id", "path": "getResourceKey()"}]}]}"#;
    fixture
        .owner
        .put_view(&CompiledView::from_json(text)?, text, false)
        .await?;
    join_type(&fixture.owner, "Patient", 2, &[]).await?;
    let run = fixture.owner.begin_run(CONDITION, RunKind::Join, false).await?;
    let mut joining = run.context("the type is free")?;
    joining.lock_for_join().await?;
    let patient = State {
        id: "p-9".into(),
        version: 1,
        last_updated: now(),
        content: Content::Body(br#"{"resourceType":"Patient","id":"p-9"}"#.to_vec()),
    };
    let waits = condition("c-4", 1, "p-1", "400", "new", "1");
    fixture.speed.round(CONDITION, vec![waits], mark(5));
    fixture.speed.round("Patient", vec![patient], mark(6));
    deadline::until("the other type is applied", PATIENCE, || async {
        let asked = QueryRequest {
            view: "patients".into(),
            ..Default::default()
        };
        let answer = fixture.ask(asked).await.ok()?;
        (answer.ids() == ["p-9"]).then_some(())
    })
    .await?;
    // A mark alone moves too.
    fixture.speed.round("Patient", vec![], mark(7));
    deadline::until("the other type's cursor moves", PATIENCE, || async {
        let speed = fixture.owner.type_state("Patient").await.ok()?.speed?;
        (speed.n == 7).then_some(())
    })
    .await?;
    assert_eq!(fixture.owner.type_state(CONDITION).await?.speed, None);
    joining.end().await?;
    fixture.until_ids(&["c-1", "c-2", "c-3", "c-4"]).await?;
    Ok(())
}

#[tokio::test]
async fn readings_whose_mark_stays_away_are_asked_for_less_and_less() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let late = condition("c-4", 1, "p-1", "400", "new", "1");
    fixture.speed.unmarked(CONDITION, vec![late], mark(5));
    fixture.until_ids(&["c-1", "c-2", "c-3", "c-4"]).await?;
    let (before, since) = (fixture.speed.asked(), std::time::Instant::now());
    deadline::until("thirty further answers", PATIENCE, || async {
        (fixture.speed.asked() >= before + 30).then_some(())
    })
    .await?;
    assert!(
        since.elapsed() > Duration::from_millis(1500),
        "the same readings, over and over"
    );
    Ok(())
}

#[tokio::test]
async fn a_view_that_is_not_materialised_runs_over_the_raw_tables() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    put(&fixture.owner, "later").await?;
    fixture.batch.hold(now(), three());
    let raw = |request: QueryRequest| QueryRequest {
        view: "later".into(),
        ..request
    };
    let answer = fixture.ask(raw(all())).await?;
    assert_eq!(answer.ids(), ["c-1", "c-2", "c-3"]);
    assert_eq!(
        (
            answer.freshness().source(),
            answer.freshness().view_state.as_str()
        ),
        (Source::Raw, "creating")
    );
    assert!(
        answer
            .rows
            .iter()
            .any(|row| row[6] == Some(Kind::Decimal("1.50".into())))
    );

    let order = vec![Order {
        column: "severity".into(),
        descending: true,
    }];
    let filters = vec![compare("severity", Operator::Less, &["9"])];
    let filtered = fixture
        .ask(raw(QueryRequest {
            filters,
            order,
            limit: 1,
            ..all()
        }))
        .await?;
    assert_eq!(
        (filtered.in_order(), filtered.footer().truncated),
        (vec!["c-3".to_owned()], true)
    );
    let found = fixture
        .ask(raw(QueryRequest {
            search: vec![search("_id", "", &["c-2"])],
            ..all()
        }))
        .await?;
    assert_eq!(found.ids(), ["c-2"]);

    // Once it has joined, its table answers.
    join(&fixture.owner, 2, &three()).await?;
    deadline::until("the table answers", PATIENCE, || async {
        let answer = fixture.ask(raw(all())).await.ok()?;
        (answer.freshness().source() == Source::Materialized && answer.ids().len() == 3).then_some(())
    })
    .await?;

    let without_batch = Fixture::with_settings(&three(), |config| {
        config.services.batch = "http://127.0.0.1:1".into();
    })
    .await?;
    put(&without_batch.owner, "later").await?;
    let refused = without_batch
        .ask(raw(all()))
        .await
        .expect_err("nobody can run it");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let answer = without_batch.ask(all()).await?;
    assert_eq!(
        answer.ids().len(),
        3,
        "a layer that is down does not fail what needs it not"
    );
    Ok(())
}

#[tokio::test]
async fn without_the_speed_layer_the_batch_answers() -> anyhow::Result<()> {
    let fixture = Fixture::with_settings(&three(), |config| config.use_speed_layer = false).await?;
    fixture.speed.round(
        CONDITION,
        vec![condition("c-4", 1, "p-3", "400", "new", "4")],
        mark(5),
    );
    let answer = fixture.ask(all()).await?;
    assert_eq!(answer.ids(), ["c-1", "c-2", "c-3"]);
    assert!(!answer.freshness().speed_layer_enabled);
    assert!(answer.degradations().contains(&Reason::SpeedLayerOff));
    let mut client = fixture.gateway.client.clone();
    let statistics = client.get_statistics(GetStatisticsRequest {}).await?.into_inner();
    assert_eq!(
        (
            statistics.total_queries,
            statistics.speed_layer_queries,
            statistics.speed_layer_enabled
        ),
        (1, 0, false)
    );
    assert_eq!(
        fixture.owner.type_state(CONDITION).await?.speed,
        None,
        "nothing live is merged"
    );
    Ok(())
}

#[tokio::test]
async fn another_gateway_goes_on_merging_within_three_seconds() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    fixture
        .speed
        .preview(CONDITION, condition("c-4", 1, "p-3", "400", "new", "4"), now());
    fixture.until_ids(&["c-1", "c-2", "c-3", "c-4"]).await?;
    let other = fixture.another().await?;
    fixture.gateway.shutdown.stop();
    assert!(
        fixture.gateway.shutdown.drain(Duration::from_secs(5)).await,
        "no task has failed"
    );
    fixture
        .speed
        .preview(CONDITION, condition("c-5", 1, "p-3", "500", "new", "5"), now());
    deadline::until("the other one merges", Duration::from_secs(3), || async {
        let answer = other.ask(all()).await.ok()?;
        (answer.ids().len() == 5).then_some(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_crash_of_the_views_database_is_survived() -> anyhow::Result<()> {
    let mut server = server().await?;
    let fixture = Box::pin(Fixture::on(&server, &three(), |_| {})).await?;
    fixture.speed.round(
        CONDITION,
        vec![condition("c-4", 1, "p-3", "400", "new", "4")],
        mark(5),
    );
    fixture.until_ids(&["c-1", "c-2", "c-3", "c-4"]).await?;
    server.kill9();
    let refused = fixture.ask(all()).await.expect_err("the database is down");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    server.restart().await?;
    fixture.speed.round(
        CONDITION,
        vec![condition("c-5", 1, "p-3", "500", "new", "5")],
        mark(6),
    );
    fixture.until_ids(&["c-1", "c-2", "c-3", "c-4", "c-5"]).await?;
    Ok(())
}
