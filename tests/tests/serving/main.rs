//! The serving gateway on a real PostgreSQL: what a question gets, from which layers, and how fresh.

mod fakes;
mod fixture;

use std::time::Duration;

use api::proto::serving::{
    ClearViewCacheRequest, DegradationReason as Reason, DescribeViewRequest, Filter, FilterList,
    FreshnessDemand, GetStatisticsRequest, Layers, ListViewsRequest, Operator, Order, QueryRequest,
    ResetStatisticsRequest, ResourceVersion, Source, SqlRequest, filter, value::Kind,
};
use chrono::TimeDelta;
use e2e::deadline;
use fhir_core::resource::{Content, State};
use fixture::{Fixture, all, compare, condition, join, mark, now, put, search};
use tonic::Code;

use crate::fakes::PATIENCE;
use crate::fixture::CONDITION;

fn three() -> Vec<State> {
    vec![
        condition("c-1", 1, "p-1", "100", "Diabetes mellitus", "1.50"),
        condition("c-2", 2, "p-1", "200", "Asthma", "10"),
        condition("c-3", 3, "p-2", "100", "Gestational diabetes", "2.0"),
    ]
}

/// The ids that a request with these filters finds.
async fn found(fixture: &Fixture, filters: Vec<Filter>) -> anyhow::Result<Vec<String>> {
    Ok(fixture.ask(QueryRequest { filters, ..all() }).await?.ids())
}

fn not(inner: Filter) -> Filter {
    Filter {
        filter: Some(filter::Filter::Negation(Box::new(inner))),
    }
}

fn any(filters: Vec<Filter>) -> Filter {
    Filter {
        filter: Some(filter::Filter::Any(FilterList { filters })),
    }
}

#[tokio::test]
async fn filters_and_search_parameters_find_their_rows() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let everything = fixture.ask(all()).await?;
    assert_eq!(everything.ids(), ["c-1", "c-2", "c-3"]);
    assert_eq!(
        (
            everything.footer().row_count,
            everything.footer().batch_rows,
            everything.footer().speed_rows
        ),
        (3, 3, 0)
    );
    assert!(
        everything
            .rows
            .iter()
            .any(|row| row[6] == Some(Kind::Decimal("1.50".into()))),
        "every digit stays"
    );

    assert_eq!(
        found(&fixture, vec![compare("code", Operator::Equal, &["100"])]).await?,
        ["c-1", "c-3"]
    );
    assert_eq!(
        found(&fixture, vec![compare("code", Operator::NotEqual, &["100"])]).await?,
        ["c-2"]
    );
    assert_eq!(
        found(&fixture, vec![compare("code", Operator::In, &["200", "300"])]).await?,
        ["c-2"]
    );
    assert_eq!(
        found(
            &fixture,
            vec![compare("severity", Operator::GreaterOrEqual, &["2"])]
        )
        .await?,
        ["c-2", "c-3"]
    );
    assert_eq!(
        found(&fixture, vec![compare("label", Operator::Like, &["%diabetes"])]).await?,
        ["c-3"]
    );
    assert_eq!(
        found(&fixture, vec![compare("label", Operator::IsNull, &[])]).await?,
        [""; 0]
    );
    assert_eq!(
        found(&fixture, vec![not(compare("code", Operator::Equal, &["100"]))]).await?,
        ["c-2"]
    );
    let either = any(vec![
        compare("id", Operator::Equal, &["c-1"]),
        compare("severity", Operator::Greater, &["9.99"]),
    ]);
    assert_eq!(found(&fixture, vec![either]).await?, ["c-1", "c-2"]);
    let evil = "x' OR '1'='1";
    assert_eq!(
        found(&fixture, vec![compare("code", Operator::Equal, &[evil])]).await?,
        [""; 0]
    );

    for (parameter, expected) in [
        (search("code", "", &["100"]), vec!["c-1", "c-3"]),
        (search("code", "", &["urn:codes|200"]), vec!["c-2"]),
        (search("code", "", &["urn:other|200"]), vec![]),
        (search("code", "text", &["DIABETES"]), vec!["c-1", "c-3"]),
        (search("code:text", "", &["asthma"]), vec!["c-2"]),
        (search("patient", "", &["Patient/p-1"]), vec!["c-1", "c-2"]),
        (search("patient", "", &["p-2"]), vec!["c-3"]),
        (search("_id", "", &["c-1", "c-3", "c-9"]), vec!["c-1", "c-3"]),
        (search("onset-date", "", &["ge2020-02"]), vec!["c-2", "c-3"]),
        (search("onset-date", "", &["2020"]), vec!["c-1", "c-2", "c-3"]),
        (search("_lastUpdated", "", &["ge2020"]), vec!["c-1", "c-2", "c-3"]),
        (search("_lastUpdated", "", &["lt2020"]), vec![]),
    ] {
        let name = format!("{} {} {:?}", parameter.name, parameter.modifier, parameter.values);
        let answer = fixture
            .ask(QueryRequest {
                search: vec![parameter],
                ..all()
            })
            .await?;
        assert_eq!(answer.ids(), expected, "{name}");
    }
    Ok(())
}

#[tokio::test]
async fn answers_have_the_shape_that_was_asked_for() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let order = vec![Order {
        column: "severity".into(),
        descending: true,
    }];
    let columns = vec!["id".to_owned(), "severity".to_owned()];
    let answer = fixture
        .ask(QueryRequest {
            order: order.clone(),
            columns,
            limit: 2,
            ..all()
        })
        .await?;
    assert_eq!(answer.in_order(), ["c-2", "c-3"]);
    assert_eq!(
        answer
            .header
            .columns
            .iter()
            .map(|c| c.name.as_str())
            .collect::<Vec<_>>(),
        ["id", "severity"]
    );
    assert_eq!(answer.header.columns[1].sql_type, "numeric");
    assert!(answer.footer().truncated);

    let count = fixture
        .ask(QueryRequest {
            count_only: true,
            ..all()
        })
        .await?;
    assert_eq!(count.rows, [[Some(Kind::Integer(3))]]);
    assert_eq!(count.footer().row_count, 3);

    let latest = fixture
        .ask(QueryRequest {
            max_resources: 1,
            ..all()
        })
        .await?;
    assert_eq!(
        (latest.in_order(), latest.footer().truncated),
        (vec!["c-3".to_owned()], true)
    );
    let enough = fixture
        .ask(QueryRequest {
            max_resources: 4,
            order,
            ..all()
        })
        .await?;
    assert_eq!((enough.rows.len(), enough.footer().truncated), (3, false));

    let future = api::time::timestamp(now() + TimeDelta::hours(1));
    assert!(
        fixture
            .ask(QueryRequest {
                since: Some(future),
                ..all()
            })
            .await?
            .rows
            .is_empty()
    );
    Ok(())
}

#[tokio::test]
async fn unknown_names_are_refused_with_those_that_exist() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let by = |column: &str| {
        vec![Order {
            column: column.into(),
            descending: false,
        }]
    };
    let columns = "id, patient_id, system, code, label, onset, severity";
    for (request, names) in [
        (
            QueryRequest {
                view: "condition".into(),
                ..Default::default()
            },
            "there are: conditions",
        ),
        (
            QueryRequest {
                columns: vec!["nothing".into()],
                ..all()
            },
            columns,
        ),
        (
            QueryRequest {
                filters: vec![compare("nothing", Operator::Equal, &["x"])],
                ..all()
            },
            columns,
        ),
        (
            QueryRequest {
                order: by("nothing"),
                ..all()
            },
            columns,
        ),
        (
            QueryRequest {
                search: vec![search("gender", "", &["male"])],
                ..all()
            },
            "_id, _lastUpdated, code, onset-date, patient, subject",
        ),
        (
            QueryRequest {
                search: vec![search("code", "exact", &["1"])],
                ..all()
            },
            "it has: text, missing",
        ),
        (
            QueryRequest {
                filters: vec![compare("severity", Operator::Equal, &["much-secret"])],
                ..all()
            },
            "severity",
        ),
        (
            QueryRequest {
                filters: vec![compare("code", Operator::In, &[])],
                ..all()
            },
            "one value or more",
        ),
        (QueryRequest { limit: -1, ..all() }, "limit"),
        (QueryRequest::default(), "view"),
    ] {
        let refused = fixture.ask(request).await.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(names), "{refused}");
        assert!(
            !refused.message().contains("secret"),
            "a value is in the message: {refused}"
        );
    }
    let paged = fixture
        .ask(QueryRequest {
            page_size: 10,
            ..all()
        })
        .await
        .expect_err("pages come later");
    assert_eq!(paged.code(), Code::Unimplemented);
    let mut client = fixture.gateway.client.clone();
    assert_eq!(
        client.sql(SqlRequest::default()).await.expect_err("later").code(),
        Code::Unimplemented
    );
    let unknown = client
        .describe_view(DescribeViewRequest { view: "x".into() })
        .await
        .expect_err("unknown");
    assert_eq!(unknown.code(), Code::InvalidArgument);
    Ok(())
}

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
    fixture.until_ids(&["c-6"]).await?;
    let degraded = deadline::until("the errors are counted", PATIENCE, || async {
        let answer = fixture.ask(all()).await.ok()?;
        answer
            .degradations()
            .contains(&Reason::EvaluationErrors)
            .then_some(answer)
    });
    // The count is the registry's; it comes with the next change of the registry.
    put(&fixture.owner, "other").await?;
    degraded.await?;
    Ok(())
}

#[tokio::test]
async fn at_least_waits_until_the_version_is_visible() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let demand = |id: &str, version| FreshnessDemand {
        at_least: vec![ResourceVersion {
            resource_type: CONDITION.into(),
            id: id.into(),
            version,
        }],
        ..Default::default()
    };
    // Visible already.
    fixture
        .ask(QueryRequest {
            freshness: Some(demand("c-3", 3)),
            ..all()
        })
        .await?;

    // The webhook is late: the version is pulled in.
    fixture.speed.at_pull(
        CONDITION,
        vec![condition("c-3", 4, "p-2", "104", "pulled", "1")],
        6,
    );
    let pulled = fixture
        .ask(QueryRequest {
            freshness: Some(demand("c-3", 4)),
            ..all()
        })
        .await?;
    assert!(
        pulled
            .rows
            .iter()
            .any(|row| row[3] == Some(Kind::Text("104".into())))
    );

    // HAPI never had it: a reading that began after the question ends the wait.
    fixture.speed.at_pull(CONDITION, vec![], 7);
    fixture
        .ask(QueryRequest {
            freshness: Some(demand("c-1", 99)),
            ..all()
        })
        .await?;

    // Nobody can say: the caller's deadline ends it.
    let mut request = tonic::Request::new(QueryRequest {
        freshness: Some(demand("c-1", 100)),
        ..all()
    });
    request.set_timeout(Duration::from_millis(400));
    let late = fixture.gateway.ask(request).await.expect_err("not visible");
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");

    let mut unknown = demand("x", 1);
    unknown.at_least[0].resource_type = "Patient".into();
    let refused = fixture
        .ask(QueryRequest {
            freshness: Some(unknown),
            ..all()
        })
        .await
        .expect_err("no view");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains(CONDITION), "{refused}");
    Ok(())
}

#[tokio::test]
async fn what_is_too_old_is_refused_and_never_served_silently() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let within = |span: TimeDelta| {
        let demand = FreshnessDemand {
            max_staleness: Some(api::time::duration(span)),
            ..Default::default()
        };
        QueryRequest {
            freshness: Some(demand),
            ..all()
        }
    };
    // The batch is some ten seconds old.
    let refused = fixture
        .ask(within(TimeDelta::seconds(2)))
        .await
        .expect_err("too old");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    fixture.ask(within(TimeDelta::minutes(10))).await?;
    fixture.speed.round(CONDITION, vec![], mark(5));
    deadline::until("the mark is applied", PATIENCE, || async {
        fixture.speed.round(CONDITION, vec![], mark(6));
        fixture.ask(within(TimeDelta::seconds(2))).await.ok()
    })
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
        config.services.batch = "http://127.0.0.1:1".into()
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
async fn statistics_and_discovery_say_what_is_there() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let mut client = fixture.gateway.client.clone();
    put(&fixture.owner, "later").await?;
    fixture.batch.hold(now(), three());
    fixture.ask(all()).await?;
    fixture.ask(all()).await?;
    fixture
        .ask(QueryRequest {
            view: "later".into(),
            ..Default::default()
        })
        .await?;
    fixture
        .ask(QueryRequest {
            view: "nothing".into(),
            ..Default::default()
        })
        .await
        .expect_err("no answer, no count");
    let statistics = client.get_statistics(GetStatisticsRequest {}).await?.into_inner();
    assert_eq!(
        (
            statistics.total_queries,
            statistics.materialized_queries,
            statistics.raw_queries,
            statistics.speed_layer_queries
        ),
        (3, 2, 1, 2)
    );
    assert_eq!(statistics.views_cached, 2);
    let rows: Vec<_> = statistics
        .views
        .iter()
        .map(|view| (view.view.as_str(), view.queries, view.rows))
        .collect();
    assert_eq!(rows, [("conditions", 2, 6), ("later", 1, 3)]);
    client.reset_statistics(ResetStatisticsRequest {}).await?;
    assert_eq!(
        client
            .get_statistics(GetStatisticsRequest {})
            .await?
            .into_inner()
            .total_queries,
        0
    );
    assert_eq!(
        client
            .clear_view_cache(ClearViewCacheRequest {})
            .await?
            .into_inner()
            .views_forgotten,
        2
    );

    let views = client.list_views(ListViewsRequest {}).await?.into_inner().views;
    let names: Vec<_> = views
        .iter()
        .map(|view| (view.name.as_str(), view.materialized))
        .collect();
    assert_eq!(names, [("conditions", true), ("later", false)]);
    let described = client
        .describe_view(DescribeViewRequest {
            view: "conditions".into(),
        })
        .await?
        .into_inner();
    assert_eq!(described.columns.len(), 7);
    let code = described
        .search
        .iter()
        .find(|binding| binding.name == "code")
        .expect("code can be asked");
    assert_eq!(
        (code.columns.clone(), code.modifiers.clone()),
        (
            vec!["code".to_owned(), "label".into()],
            vec!["text".to_owned(), "missing".into()]
        )
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
    let mut fixture = Fixture::over(&three()).await?;
    fixture.speed.round(
        CONDITION,
        vec![condition("c-4", 1, "p-3", "400", "new", "4")],
        mark(5),
    );
    fixture.until_ids(&["c-1", "c-2", "c-3", "c-4"]).await?;
    fixture.server.kill9();
    let refused = fixture.ask(all()).await.expect_err("the database is down");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    fixture.server.restart().await?;
    fixture.speed.round(
        CONDITION,
        vec![condition("c-5", 1, "p-3", "500", "new", "5")],
        mark(6),
    );
    fixture.until_ids(&["c-1", "c-2", "c-3", "c-4", "c-5"]).await?;
    Ok(())
}
