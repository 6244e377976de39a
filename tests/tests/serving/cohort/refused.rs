//! What a cohort cannot be asked, and what ends one.

use std::time::Duration;

use api::proto::serving::{CohortRequest, CriterionTree, FreshnessDemand, Operator};
use e2e::deadline;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

use super::{all_of, filtered, in_view, not, register, request, searched};
use crate::fakes::PATIENCE;
use crate::fixture::{Fixture, compare, join_type, put, search, three};

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_its_place_and_what_to_do() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let organizations = r#""select": [{"column": [{"name": "id", "path": "getResourceKey()"}]}]"#;
    register(&fixture.owner, "organizations", "Organization", organizations).await?;
    join_type(&fixture.owner, "Organization", 2, &[]).await?;
    // Active people alone are not all patients.
    let active = r#""where": [{"path": "active"}], "select": [{"column": [{"name": "id", "path": "getResourceKey()"}]}]"#;
    register(&fixture.owner, "active_people", "Patient", active).await?;
    join_type(&fixture.owner, "Patient", 3, &[]).await?;
    put(&fixture.owner, "later").await?;
    deadline::until("the views are known", PATIENCE, || async {
        fixture
            .gateway
            .cohort(request(in_view("active_people")))
            .await
            .ok()
    })
    .await?;
    let good = || in_view("conditions");
    refused(
        &fixture,
        vec![
            (
                CohortRequest::default(),
                Code::InvalidArgument,
                &["criteria: must be set"][..],
            ),
            (
                request(CriterionTree { tree: None }),
                Code::InvalidArgument,
                &["criteria.tree: must be set"],
            ),
            (
                request(all_of(vec![])),
                Code::InvalidArgument,
                &["at least one criterion"],
            ),
            (
                request(all_of(vec![good(), in_view("nothing")])),
                Code::InvalidArgument,
                &["criterion 2", "no view nothing", "conditions"],
            ),
            (
                request(all_of(vec![good(), not(in_view("organizations"))])),
                Code::InvalidArgument,
                &[
                    "criterion 2",
                    "organizations",
                    "search parameter patient",
                    "active_people, conditions",
                ],
            ),
            (
                request(in_view("later")),
                Code::FailedPrecondition,
                &["criterion 1", "later", "not materialised", "Query"],
            ),
            (
                request(not(good())),
                Code::FailedPrecondition,
                &["all patients", "a row for each Patient"],
            ),
        ],
    )
    .await;
    Ok(())
}

/// Each with its code and words of its message, which never holds a value.
async fn refused(fixture: &Fixture, cases: Vec<(CohortRequest, Code, &[&str])>) {
    for (asked, code, words) in cases {
        let refused = fixture.gateway.cohort(asked).await.expect_err("refused");
        assert_eq!(refused.code(), code, "{refused}");
        for word in words {
            assert!(refused.message().contains(word), "{word}: {refused}");
        }
        assert!(
            !refused.message().contains("secret"),
            "a value is in the message: {refused}"
        );
    }
}

#[tokio::test]
async fn bad_conditions_limits_and_types_are_refused_by_name() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let good = || in_view("conditions");
    let mut deep = good();
    for _ in 0..12 {
        deep = all_of(vec![deep]);
    }
    let with = |change: fn(&mut CohortRequest)| {
        let mut asked = request(in_view("conditions"));
        change(&mut asked);
        asked
    };
    refused(
        &fixture,
        vec![
            (
                request(filtered(
                    "conditions",
                    vec![compare("nothing", Operator::Equal, &["much-secret"])],
                )),
                Code::InvalidArgument,
                &["criterion 1", "no column nothing", "patient_id"],
            ),
            (
                request(filtered(
                    "conditions",
                    vec![compare("severity", Operator::Equal, &["much-secret"])],
                )),
                Code::InvalidArgument,
                &["severity", "numeric"],
            ),
            (
                request(filtered(
                    "conditions",
                    vec![compare("code", Operator::Equal, &["a", "much-secret"])],
                )),
                Code::InvalidArgument,
                &["criterion 1: filters.comparison.values"],
            ),
            (
                request(searched(
                    "conditions",
                    vec![search("gender", "", &["much-secret"])],
                )),
                Code::InvalidArgument,
                &["criterion 1", "gender", "onset-date"],
            ),
            (
                request(deep),
                Code::InvalidArgument,
                &["12 levels", "cohort.max_depth"],
            ),
            (
                request(all_of(vec![good(); 51])),
                Code::InvalidArgument,
                &["50 criteria", "cohort.max_criteria"],
            ),
            (with(|r| r.limit = -1), Code::InvalidArgument, &["limit"]),
            (
                with(|r| r.resource_types = vec!["Practitioner".into()]),
                Code::InvalidArgument,
                &["resource_types", "Practitioner", "whose"],
            ),
            (
                with(|r| r.resource_types = vec!["Conditions".into()]),
                Code::InvalidArgument,
                &["resource_types", "FHIR R4"],
            ),
            (
                with(|r| (r.count_only, r.resource_types) = (true, vec!["Patient".into()])),
                Code::InvalidArgument,
                &["resource_types", "count_only"],
            ),
            (
                with(|r| {
                    r.freshness = Some(FreshnessDemand {
                        layers: 9,
                        ..Default::default()
                    });
                }),
                Code::InvalidArgument,
                &["freshness.layers"],
            ),
        ],
    )
    .await;
    Ok(())
}

/// Rows whose long texts take PostgreSQL far longer than any test to look through.
async fn slow(fixture: &Fixture) -> anyhow::Result<PgConnection> {
    let mut owner = PgConnection::connect(&fixture.owner_url).await?;
    sqlx::raw_sql(
        "INSERT INTO sqlonfhir_base.conditions (_rid, _version, _updated, _row, patient_id, label) \
         SELECT 'n-' || i, 1, now(), 0, 'n-' || i, long FROM generate_series(1, 300) i, (SELECT repeat('a', 300000) long) text",
    )
    .execute(&mut owner)
    .await?;
    Ok(owner)
}

fn slowly() -> CohortRequest {
    let words: Vec<String> = (1..=200).map(|n| "b".repeat(n)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    request(searched("conditions", vec![search("code", "text", &words)]))
}

#[tokio::test]
async fn one_that_takes_too_long_is_ended_with_the_settings_name() -> anyhow::Result<()> {
    let fixture = Fixture::with_settings(&three(), |config| {
        config.cohort.timeout_seconds = Duration::from_secs(1);
    })
    .await?;
    let mut owner = slow(&fixture).await?;
    for count_only in [false, true] {
        let asked = CohortRequest {
            count_only,
            ..slowly()
        };
        let refused = fixture.gateway.cohort(asked).await.expect_err("too slow");
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        assert!(refused.message().contains("cohort.timeout_seconds"), "{refused}");
    }
    // A table that somebody keeps locked.
    let mut locked = owner.begin().await?;
    sqlx::raw_sql("LOCK TABLE sqlonfhir_base.conditions")
        .execute(&mut *locked)
        .await?;
    let refused = fixture
        .gateway
        .cohort(request(in_view("conditions")))
        .await
        .expect_err("locked");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    locked.rollback().await?;
    let after = searched("conditions", vec![search("code", "", &["100"])]);
    assert_eq!(fixture.gateway.cohort(request(after)).await?.ids, ["p-1", "p-2"]);
    Ok(())
}

#[tokio::test]
async fn who_goes_ends_the_search_in_postgresql() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let mut owner = slow(&fixture).await?;
    let searching = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE 'SELECT _patient%'";
    let mut client = fixture.gateway.client.clone();
    let asking = tokio::spawn(async move { client.cohort(slowly()).await.map(|_| ()) });
    let owner = tokio::sync::Mutex::new(&mut owner);
    let running = |wanted: i64| {
        let owner = &owner;
        async move {
            let mut owner = owner.lock().await;
            let count: i64 = sqlx::query_scalar(searching).fetch_one(&mut **owner).await.ok()?;
            (count == wanted).then_some(())
        }
    };
    deadline::until("the search runs", PATIENCE, || running(1)).await?;
    asking.abort();
    // Far less than cohort.timeout_seconds.
    deadline::until("the search has ended", PATIENCE, || running(0)).await?;
    Ok(())
}
