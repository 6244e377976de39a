//! Batch, live and raw rows; a layer that fails; a gateway that ends.

use std::time::Duration;

use api::proto::serving::{
    DegradationReason as Reason, FreshnessDemand, GetStatisticsRequest, Layers, Operator, Order,
    QueryRequest, Source, value::Kind,
};
use e2e::deadline;
use fhir_core::resource::{Content, State};
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

use crate::fakes::PATIENCE;
use crate::fixture::{
    CONDITION, Fixture, all, compare, condition, join, mark, now, put, search, server, three,
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
