//! `ScanRecentResources`: what is found is what a filter over all states that were offered finds.

use std::collections::BTreeSet;

use api::{proto::speed as proto, speed::speed_service_client::SpeedServiceClient, time};
use fhir_core::resource::{Content, State};
use proto::scan_recent_resources_response::Part;
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tonic::{Code, Status, transport::Channel};

use crate::conditions::{Asked, Condition, shown};
use crate::kit::{Ingestor, at, reading, state};
use crate::service::serve;

/// The states of an answer, each with whether it is a preview, and the summary, which comes last and once.
pub(crate) async fn ask(
    client: &mut SpeedServiceClient<Channel>,
    request: proto::ScanRecentResourcesRequest,
) -> Result<(Vec<(State, bool)>, proto::ScanSummary), Status> {
    let mut parts = client.scan_recent_resources(request).await?.into_inner();
    let mut found = Vec::new();
    loop {
        let response = parts.message().await?.unwrap();
        match response.part.unwrap() {
            Part::State(state) => found.push((state.try_into().unwrap(), response.preview)),
            Part::Summary(summary) => {
                assert!(parts.message().await?.is_none(), "the summary is last");
                return Ok((found, summary));
            }
        }
    }
}

fn request(resource_type: &str, asked: &[(&str, &str)]) -> proto::ScanRecentResourcesRequest {
    let parameters = asked.iter().map(|(name, value)| proto::SearchParameter {
        name: (*name).into(),
        value: (*value).into(),
    });
    proto::ScanRecentResourcesRequest {
        resource_type: resource_type.into(),
        parameters: parameters.collect(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_scan_finds_what_a_filter_over_all_offered_states_finds() {
    let mut random = StdRng::seed_from_u64(19);
    for round in 0..12 {
        let ingestor = Ingestor::start().await;
        let mut client = serve(&ingestor).await;
        let readings: Vec<_> = (0..random.random_range(0..120))
            .map(|_| (random.random_range(1..40), Condition::any(&mut random)))
            .collect();
        let previews: Vec<_> = (0..random.random_range(0..60))
            .map(|_| Condition::any(&mut random))
            .collect();
        for (n, found) in &readings {
            let offered = [reading(found.state(), *n)];
            ingestor
                .store
                .offer_readings(None, "Condition", &offered, at(0))
                .await
                .unwrap();
        }
        for found in &previews {
            ingestor
                .store
                .offer_preview("Condition", &found.state(), at(0))
                .await
                .unwrap();
        }
        for question in 0..25 {
            let (asked, since) = (Asked::any(&mut random), random.random_range(0..30));
            let limit = *[0, 1, 5, 1_000].choose(&mut random).unwrap();
            let written = asked.written(&mut random);
            let written: Vec<_> = written
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let scan = proto::ScanRecentResourcesRequest {
                since: Some(time::timestamp(at(since))),
                max_resources: limit,
                ..request("Condition", &written)
            };
            let (found, summary) = ask(&mut client, scan).await.unwrap();

            let mut expected = shown(&readings, &previews, since);
            expected.retain(|found| found.meets(&asked));
            expected.sort_by(|a, b| (b.updated, &a.id).cmp(&(a.updated, &b.id)));
            let patients: BTreeSet<String> = expected.iter().filter_map(Condition::patient).collect();
            let total = expected.len();
            if limit > 0 {
                expected.truncate(usize::try_from(limit).unwrap());
            }
            let expected: Vec<State> = expected.iter().map(Condition::state).collect();
            let found: Vec<State> = found.into_iter().map(|(state, _)| state).collect();
            let about =
                format!("round {round}, question {question}: {written:?} since {since} limit {limit}");
            assert!(found == expected, "{about}: {found:?} is not {expected:?}");
            assert_eq!(summary.patient_ids, Vec::from_iter(patients), "{about}");
            assert_eq!(summary.total_count, i64::try_from(total).unwrap(), "{about}");
            assert_eq!(summary.truncated, found.len() < total, "{about}");
            assert!(!summary.patient_ids_truncated && summary.unreadable_count == 0);
        }
    }
}

#[tokio::test]
async fn more_than_a_page_is_counted_and_the_newest_are_sent() {
    let ingestor = Ingestor::start().await;
    let mut client = serve(&ingestor).await;
    let gender = |number: i64| ["male", "female"][usize::from(number % 3 == 0)];
    let readings: Vec<_> = (0..2_500)
        .map(|number| {
            let body = format!(r#"{{"resourceType":"Patient","gender":"{}"}}"#, gender(number));
            let content = Content::Body(body.into());
            let found = State {
                content,
                ..state(&format!("p{number:04}"), number + 1)
            };
            reading(found, 1)
        })
        .collect();
    ingestor
        .store
        .offer_readings(None, "Patient", &readings, at(0))
        .await
        .unwrap();
    let scan = proto::ScanRecentResourcesRequest {
        max_resources: 3,
        ..request("Patient", &[("gender", "female")])
    };
    let (found, summary) = ask(&mut client, scan).await.unwrap();
    let ids: Vec<_> = found.iter().map(|(state, _)| state.id.as_str()).collect();
    assert_eq!(ids, ["p2499", "p2496", "p2493"]);
    assert_eq!((summary.total_count, summary.truncated), (834, true));
    assert_eq!(summary.patient_ids.len(), 834);
    assert!(summary.patient_ids.is_sorted());
}

#[tokio::test]
async fn what_cannot_be_read_is_counted_and_matches_only_where_nothing_is_asked() {
    let ingestor = Ingestor::start().await;
    let mut client = serve(&ingestor).await;
    let unreadable = State {
        content: Content::Unreadable("it lies elsewhere".into()),
        ..state("a", 1)
    };
    let readings = [reading(unreadable, 1), reading(state("b", 2), 1)];
    ingestor
        .store
        .offer_readings(None, "Patient", &readings, at(0))
        .await
        .unwrap();
    for (asked, sent) in [(&[][..], 2), (&[("_id", "a,b")], 1)] {
        let (found, summary) = ask(&mut client, request("Patient", asked)).await.unwrap();
        assert_eq!(
            (found.len(), summary.total_count, summary.unreadable_count),
            (sent, i64::try_from(sent).unwrap(), 1)
        );
    }
}

#[tokio::test]
async fn a_parameter_that_cannot_be_bound_and_a_bad_value_are_refused() {
    let ingestor = Ingestor::start().await;
    let mut client = serve(&ingestor).await;
    for (asked, said) in [
        (
            ("birthdate", "Zaphod"),
            "parameters.name: birthdate cannot be bound to an element of Patient; these can: _id, gender",
        ),
        (
            ("gender", "Zaphod"),
            "parameters.value: of gender must be male, female, other, unknown",
        ),
    ] {
        let status = ask(&mut client, request("Patient", &[asked])).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().starts_with(said), "{}", status.message());
        assert!(!status.message().contains("Zaphod"), "{}", status.message());
    }
}
