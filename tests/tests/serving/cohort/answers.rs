//! What a cohort finds, the shape of its answer, and how fresh it is.

use api::proto::serving::{
    CohortRequest, Criterion, DegradationReason as Reason, FreshnessDemand, GetStatisticsRequest, Layers,
    Operator, ResourceVersion,
};
use chrono::TimeDelta;
use e2e::deadline;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

use super::{all_of, any_of, criterion, filtered, gone, in_view, not, patient, people, request, searched};
use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, Fixture, compare, condition, join_type, mark, now, search, three};

#[tokio::test]
async fn patients_are_distinct_counted_and_in_order() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let everyone = fixture.gateway.cohort(request(in_view("conditions"))).await?;
    assert_eq!(everyone.ids, ["p-1", "p-2"], "two conditions are of one patient");
    assert_eq!(everyone.header.patient_count, 2);
    let freshness = everyone.header.freshness.expect("an answer says how fresh it is");
    assert!(
        freshness.as_of.is_some() && freshness.view_state == "active",
        "{freshness:?}"
    );

    let limited = CohortRequest {
        limit: 1,
        ..request(in_view("conditions"))
    };
    let limited = fixture.gateway.cohort(limited).await?;
    assert_eq!(limited.ids, ["p-1"]);
    assert!(
        limited.header.patient_count == 2 && limited.footer.truncated,
        "{limited:?}"
    );

    let count = CohortRequest {
        count_only: true,
        ..request(in_view("conditions"))
    };
    let count = fixture.gateway.cohort(count).await?;
    assert!(count.ids.is_empty() && count.header.patient_count == 2 && !count.footer.truncated);

    let none = searched("conditions", vec![search("code", "", &["none"])]);
    let none = fixture.gateway.cohort(request(none)).await?;
    assert!(none.ids.is_empty() && none.header.patient_count == 0 && none.pages == 0);

    let statistics = fixture
        .gateway
        .client
        .clone()
        .get_statistics(GetStatisticsRequest {})
        .await?
        .into_inner();
    assert_eq!((statistics.total_queries, statistics.views[0].queries), (4, 4));
    Ok(())
}

#[tokio::test]
async fn filters_search_parameters_and_since_mean_the_same_as_for_rows() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let since = |at| {
        criterion(Criterion {
            view: "conditions".into(),
            since: Some(api::time::timestamp(at)),
            ..Default::default()
        })
    };
    let code = |value: &str| searched("conditions", vec![search("code", "", &[value])]);
    let severe = filtered("conditions", vec![compare("severity", Operator::Greater, &["2"])]);
    for (criteria, expected) in [
        (code("100"), &["p-1", "p-2"][..]),
        (code("urn:codes|200"), &["p-1"]),
        (
            searched("conditions", vec![search("code", "text", &["GESTATIONAL"])]),
            &["p-2"],
        ),
        (
            searched("conditions", vec![search("patient", "", &["Patient/p-2"])]),
            &["p-2"],
        ),
        (severe.clone(), &["p-1"]),
        (since(now() - TimeDelta::hours(1)), &["p-1", "p-2"]),
        (since(now() + TimeDelta::hours(1)), &[]),
        (all_of(vec![code("100"), not(severe.clone())]), &["p-2"]),
        (all_of(vec![code("100"), severe.clone()]), &["p-1"]),
        (any_of(vec![severe, code("none")]), &["p-1"]),
        // Of one row; of one patient.
        (
            filtered(
                "conditions",
                vec![
                    compare("code", Operator::Equal, &["100"]),
                    compare("code", Operator::Equal, &["200"]),
                ],
            ),
            &[],
        ),
        (all_of(vec![code("100"), code("200")]), &["p-1"]),
    ] {
        let found = fixture.gateway.cohort(request(criteria.clone())).await?;
        assert_eq!(found.ids, expected, "{criteria:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_negation_of_all_is_about_all_patients_and_one_beside_others_is_not() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    let asthma = || searched("conditions", vec![search("code", "", &["200"])]);
    // No view over Patient: beside something that finds patients none is needed.
    let beside = all_of(vec![in_view("conditions"), not(asthma())]);
    assert_eq!(
        fixture.gateway.cohort(request(beside.clone())).await?.ids,
        ["p-2"]
    );
    for about_all in [
        not(asthma()),
        any_of(vec![asthma(), not(asthma())]),
        all_of(vec![not(asthma())]),
    ] {
        let refused = fixture
            .gateway
            .cohort(request(about_all))
            .await
            .expect_err("nobody knows all");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("a row for each Patient"), "{refused}");
    }
    // p-1 has no Patient; p-9 has no condition.
    people(&fixture, &[patient("p-2", "male"), patient("p-9", "female")]).await?;
    let fresh = deadline::until("the view is known", PATIENCE, || async {
        fixture.gateway.cohort(request(not(asthma()))).await.ok()
    })
    .await?;
    assert_eq!(fresh.ids, ["p-2", "p-9"]);
    for (criteria, expected) in [
        (beside, &["p-2"][..]),
        // Of a double negation nothing is left.
        (not(not(asthma())), &["p-1"]),
        (any_of(vec![asthma(), not(in_view("conditions"))]), &["p-9"]),
        (not(any_of(vec![asthma(), in_view("people")])), &[]),
        (
            all_of(vec![
                in_view("conditions"),
                any_of(vec![asthma(), not(in_view("people"))]),
            ]),
            &["p-1"],
        ),
        (all_of(vec![in_view("conditions"), in_view("people")]), &["p-2"]),
        (
            filtered("people", vec![compare("gender", Operator::Equal, &["female"])]),
            &["p-9"],
        ),
    ] {
        let found = fixture.gateway.cohort(request(criteria.clone())).await?;
        assert_eq!(found.ids, expected, "{criteria:?}");
    }
    Ok(())
}

#[tokio::test]
async fn live_rows_count_and_each_view_tells_of_its_own_freshness() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    people(&fixture, &[patient("p-1", "male"), patient("p-2", "male")]).await?;
    fixture.speed.round(
        CONDITION,
        vec![condition("c-9", 1, "p-3", "100", "new", "1"), gone("c-3", 4)],
        mark(5),
    );
    fixture.until_ids(&["c-1", "c-2", "c-9"]).await?;
    let code = || searched("conditions", vec![search("code", "", &["100"])]);
    let merged = fixture.gateway.cohort(request(code())).await?;
    assert_eq!(merged.ids, ["p-1", "p-3"]);
    let demand = |demand| CohortRequest {
        freshness: Some(demand),
        ..request(code())
    };
    let batch = demand(FreshnessDemand {
        layers: Layers::Batch.into(),
        ..Default::default()
    });
    let batch = fixture.gateway.cohort(batch).await?;
    assert_eq!(batch.ids, ["p-1", "p-2"]);
    let reasons = |found: &super::Found| -> Vec<(Reason, String)> {
        let freshness = found.header.freshness.clone().unwrap_or_default();
        let of = freshness.degradations.into_iter();
        of.map(|d| (d.reason(), d.detail)).collect()
    };
    assert!(
        reasons(&batch)
            .iter()
            .any(|(reason, _)| *reason == Reason::SpeedLayerOff)
    );

    // Of two types, one with live rows and one without: as old as the older.
    let both = fixture
        .gateway
        .cohort(request(all_of(vec![code(), in_view("people")])))
        .await?;
    assert_eq!(both.ids, ["p-1"]);
    let (one, two) = (
        merged.header.freshness.expect("some"),
        both.header.freshness.clone().expect("some"),
    );
    assert!(one.speed_as_of.is_some() && two.speed_as_of.is_none(), "{two:?}");
    assert!(
        two.as_of.map(|t| t.seconds) < one.as_of.map(|t| t.seconds),
        "{two:?}"
    );
    let behind: Vec<_> = reasons(&both)
        .into_iter()
        .filter(|(reason, _)| *reason == Reason::SpeedBehind)
        .collect();
    assert!(
        behind.len() == 1 && behind[0].1.starts_with("people: "),
        "{behind:?}"
    );

    // Refused rather than older; waited for.
    let within = |seconds| FreshnessDemand {
        max_staleness: Some(api::time::duration(TimeDelta::seconds(seconds))),
        ..Default::default()
    };
    let strict = CohortRequest {
        freshness: Some(within(2)),
        ..request(all_of(vec![code(), in_view("people")]))
    };
    let refused = fixture
        .gateway
        .cohort(strict)
        .await
        .expect_err("the people are older");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    fixture.gateway.cohort(demand(within(600))).await?;
    fixture.speed.at_pull(
        CONDITION,
        vec![condition("c-8", 7, "p-8", "100", "pulled", "1")],
        6,
    );
    let version = |resource_type: &str| FreshnessDemand {
        at_least: vec![ResourceVersion {
            resource_type: resource_type.into(),
            id: "c-8".into(),
            version: 7,
        }],
        ..Default::default()
    };
    assert_eq!(
        fixture.gateway.cohort(demand(version(CONDITION))).await?.ids,
        ["p-1", "p-3", "p-8"]
    );
    let refused = fixture
        .gateway
        .cohort(demand(version("Observation")))
        .await
        .expect_err("no view");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    Ok(())
}

#[tokio::test]
async fn many_patients_come_in_pages() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    people(&fixture, &[patient("p-1", "male")]).await?;
    let mut owner = PgConnection::connect(&fixture.owner_url).await?;
    // Numbers in the order of their texts, so that order by bytes is not order of insertion.
    sqlx::raw_sql(
        "INSERT INTO sqlonfhir_base.people (_rid, _version, _updated, _row, id, gender) \
         SELECT 'n-' || i, 1, now(), 0, 'n-' || i, 'other' FROM generate_series(1, 12001) i",
    )
    .execute(&mut owner)
    .await?;
    let others = || filtered("people", vec![compare("gender", Operator::Equal, &["other"])]);
    let found = deadline::until("the view is known", PATIENCE, || async {
        fixture.gateway.cohort(request(others())).await.ok()
    })
    .await?;
    let mut expected: Vec<String> = (1..=12_001).map(|i| format!("n-{i}")).collect();
    expected.sort();
    assert!(
        found.ids == expected && found.pages == 3,
        "{} ids, {} pages",
        found.ids.len(),
        found.pages
    );
    assert_eq!(found.header.patient_count, 12_001);
    for limit in [5_000, 7_000, 20_000] {
        let limited = CohortRequest {
            limit,
            ..request(others())
        };
        let limited = fixture.gateway.cohort(limited).await?;
        let wanted = usize::try_from(limit)?.min(expected.len());
        assert!(limited.ids == expected[..wanted], "{limit}");
        assert_eq!(limited.footer.truncated, wanted < expected.len(), "{limit}");
        assert_eq!(limited.header.patient_count, 12_001);
    }
    Ok(())
}

#[tokio::test]
async fn a_view_that_is_replaced_is_asked_by_the_definition_that_made_its_rows() -> anyhow::Result<()> {
    let fixture = Fixture::over(&three()).await?;
    // The columns change places: whoever took one's name from the definition before would find another patient.
    let (whose, other) = ("subject.getReferenceKey(Patient)", "identifier.value.first()");
    let definition = |first: &str, second: &str| {
        format!(
            r#""select": [{{"column": [{{"name": "a", "path": "{first}", "type": "id"}}, {{"name": "b", "path": "{second}", "type": "id"}}]}}]"#
        )
    };
    let body = r#"{"resourceType":"Encounter","subject":{"reference":"Patient/p-5"},"identifier":[{"value":"p-6"}]}"#;
    let visit = super::state("e-1", 1, body);
    let ids = || async {
        let found = fixture.gateway.cohort(request(in_view("visits"))).await;
        found.map(|found| found.ids).ok()
    };
    for (n, (first, second)) in (3..).zip([(whose, other), (other, whose), (whose, other)]) {
        super::register(&fixture.owner, "visits", "Encounter", &definition(first, second)).await?;
        join_type(&fixture.owner, "Encounter", n, std::slice::from_ref(&visit)).await?;
        // It may be refused for a moment; it is never wrong.
        let found = deadline::until("the definition is known", PATIENCE, ids).await?;
        assert_eq!(found, ["p-5"]);
    }
    Ok(())
}
