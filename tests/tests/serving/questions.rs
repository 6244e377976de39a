//! What a question finds, the shape of its answer, and what is refused.

use api::proto::serving::{
    ClearViewCacheRequest, DescribeViewRequest, Filter, FilterList, GetStatisticsRequest, ListViewsRequest,
    Operator, Order, QueryRequest, ResetStatisticsRequest, filter, value::Kind,
};
use chrono::TimeDelta;
use tonic::Code;

use crate::fixture::{Fixture, all, compare, now, put, search, three};

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
    let mut client = fixture.gateway.client.clone();
    let unknown = client
        .describe_view(DescribeViewRequest { view: "x".into() })
        .await
        .expect_err("unknown");
    assert_eq!(unknown.code(), Code::InvalidArgument);
    Ok(())
}

#[tokio::test]
async fn pages_follow_each_other_and_a_token_belongs_to_its_question() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let page = |page_token: &str| QueryRequest {
        page_size: 2,
        page_token: page_token.into(),
        ..all()
    };
    let first = fixture.ask(page("")).await?;
    assert_eq!((first.in_order().len(), first.footer().truncated), (2, false));
    let token = first.footer().next_page_token;
    let last = fixture.ask(page(&token)).await?;
    assert_eq!(
        (last.in_order(), last.footer().next_page_token),
        (vec!["c-3".to_owned()], String::new())
    );
    for (unfit, names) in [
        (
            QueryRequest {
                limit: 1,
                ..page(&token)
            },
            "page_token",
        ),
        (page("secret"), "page_token"),
        (
            QueryRequest {
                max_resources: 1,
                ..page("")
            },
            "max_resources",
        ),
    ] {
        let refused = fixture.ask(unfit).await.expect_err("another question");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(
            refused.message().contains(names) && !refused.message().contains("secret"),
            "{refused}"
        );
    }
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
