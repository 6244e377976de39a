//! `SpeedService` as the merger and operators use it.

use std::{sync::Arc, time::Duration};

use api::{
    proto::speed as proto,
    speed::{
        Changes, ChangesPart, speed_service_client::SpeedServiceClient,
        speed_service_server::SpeedServiceServer,
    },
};
use chrono::TimeDelta;
use daemon::SystemClock;
use speed_ingestor::{backup::Backups, service::Speed};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Code, transport::Channel};

use crate::kit::{Ingestor, at, position, reading, state};

pub(crate) async fn serve(ingestor: &Ingestor) -> SpeedServiceClient<Channel> {
    serve_with(ingestor, None).await
}

pub(crate) async fn serve_with(ingestor: &Ingestor, backups: Option<Backups>) -> SpeedServiceClient<Channel> {
    let speed = Speed {
        store: ingestor.store.clone(),
        tail: ingestor.tail.clone(),
        needed: ingestor.needed.clone(),
        accepted: ingestor.accepted.clone(),
        silent_after: TimeDelta::seconds(120),
        taking: ingestor.taking.clone(),
        subscriptions: None,
        backups,
        shutdown: ingestor.shutdown.clone(),
        clock: Arc::new(SystemClock),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = ingestor.shutdown.token();
    let serving = tonic::transport::Server::builder()
        .add_service(SpeedServiceServer::new(speed))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned());
    tokio::spawn(serving);
    SpeedServiceClient::connect(format!("http://{address}"))
        .await
        .unwrap()
}

struct Asker {
    requests: mpsc::Sender<proto::ChangesRequest>,
    answers: tonic::Streaming<proto::ChangesResponse>,
}

impl Asker {
    async fn new(client: &mut SpeedServiceClient<Channel>) -> Self {
        let (requests, outgoing) = mpsc::channel(4);
        let answers = client
            .changes(ReceiverStream::new(outgoing))
            .await
            .unwrap()
            .into_inner();
        Self { requests, answers }
    }

    async fn ask(&self, cursor: i64, wait: TimeDelta) {
        let request = Changes {
            cursors: vec![("Patient".into(), cursor)],
            wait,
        };
        self.requests.send((&request).into()).await.unwrap();
    }

    async fn answer(&mut self) -> Vec<ChangesPart> {
        let mut parts = Vec::new();
        loop {
            let part = self.answers.message().await.unwrap().unwrap();
            parts.push(ChangesPart::try_from(part).unwrap());
            if matches!(parts.last(), Some(ChangesPart::End(_))) {
                return parts;
            }
        }
    }
}

#[tokio::test]
async fn each_request_for_changes_has_one_answer_and_waits_for_one() {
    let ingestor = Ingestor::start().await;
    ingestor.hapi.concludes_nothing(true);
    ingestor.tail.finish_one().await;
    let mut client = serve(&ingestor).await;
    let mut asker = Asker::new(&mut client).await;
    asker.ask(1_000, TimeDelta::milliseconds(100)).await;
    assert!(matches!(asker.answer().await.as_slice(), [ChangesPart::End(marks)] if marks.len() == 1));

    asker.ask(1_000, TimeDelta::seconds(20)).await;
    let begin = std::time::Instant::now();
    ingestor
        .store
        .offer_preview("Patient", &state("a", 1), at(1))
        .await
        .unwrap();
    let answer = asker.answer().await;
    assert!(begin.elapsed() < Duration::from_secs(2));
    assert!(
        matches!(&answer[0], ChangesPart::Previews(t, previews) if t == "Patient" && previews.len() == 1)
    );

    let readings: Vec<_> = (0..1_200)
        .map(|i| reading(state(&format!("p{i}"), 1), 2_000))
        .collect();
    ingestor
        .store
        .offer_readings(None, "Patient", &readings, at(1))
        .await
        .unwrap();
    let life = ingestor.store.life().await.unwrap();
    ingestor
        .store
        .set_marks(&life, &[("Patient", &position(2_000))])
        .await
        .unwrap();
    asker.ask(1_000, TimeDelta::seconds(20)).await;
    let answer = asker.answer().await;
    let count: usize = answer
        .iter()
        .map(|part| {
            if let ChangesPart::Readings(_, r) = part {
                r.len()
            } else {
                0
            }
        })
        .sum();
    assert_eq!(count, 1_200);
    assert!(answer.len() > 3, "in several parts");
    assert!(
        matches!(answer.last(), Some(ChangesPart::End(marks)) if marks[0].1.is_some_and(|mark| mark.n == 2_000))
    );
}

#[tokio::test]
async fn open_streams_end_at_the_stop() {
    let ingestor = Ingestor::start().await;
    let mut client = serve(&ingestor).await;
    let mut asker = Asker::new(&mut client).await;
    ingestor.hapi.concludes_nothing(true);
    asker.ask(1_000_000, TimeDelta::seconds(60)).await;
    ingestor.shutdown.stop();
    let end = tokio::time::timeout(Duration::from_secs(3), asker.answers.message())
        .await
        .unwrap();
    assert!(end.is_err() || end.is_ok_and(|part| part.is_none()));
    assert!(ingestor.shutdown.drain(Duration::from_secs(3)).await);
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_by_field() {
    let ingestor = Ingestor::start().await;
    let mut client = serve(&ingestor).await;
    let scan = proto::ScanRecentResourcesRequest {
        resource_type: "Goal".into(),
        ..Default::default()
    };
    let status = client.scan_recent_resources(scan).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("Patient"), "{}", status.message());
    let mut asker = Asker::new(&mut client).await;
    asker
        .requests
        .send(proto::ChangesRequest::default())
        .await
        .unwrap();
    let status = asker.answers.message().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("cursors"), "{}", status.message());
    let status = client
        .register_subscriptions(proto::RegisterSubscriptionsRequest {})
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn pull_waits_for_a_round_and_flush_makes_the_tail_read_again() {
    let ingestor = Ingestor::start().await;
    let mut client = serve(&ingestor).await;
    ingestor.hapi.finds(&[state("a", 3)]);
    let marks = client
        .pull(proto::PullRequest::default())
        .await
        .unwrap()
        .into_inner()
        .marks;
    assert_eq!(marks.len(), 3);
    let scan = proto::ScanRecentResourcesRequest {
        resource_type: "Patient".into(),
        ..Default::default()
    };
    let (found, _) = crate::scan::ask(&mut client, scan.clone()).await.unwrap();
    assert_eq!(found[0].0.version, 3);
    ingestor.hapi.finds(&[]);
    client.pull(proto::PullRequest::default()).await.unwrap();
    let request = proto::FlushRequest {
        resource_types: vec!["Patient".into()],
        confirm: "flush".into(),
    };
    assert_eq!(client.flush(request).await.unwrap().into_inner().readings, 1);
    let (found, summary) = crate::scan::ask(&mut client, scan).await.unwrap();
    assert_eq!((found, summary), (vec![], proto::ScanSummary::default()));
}

#[tokio::test]
async fn a_flush_without_the_word_forgets_nothing() {
    let ingestor = Ingestor::start().await;
    let mut client = serve(&ingestor).await;
    ingestor.hapi.finds(&[state("a", 3)]);
    ingestor.tail.finish_one().await;
    ingestor.hapi.fails(true);
    for confirm in ["", "yes", "Flush", " flush"] {
        let request = proto::FlushRequest {
            resource_types: vec!["Patient".into()],
            confirm: confirm.into(),
        };
        let status = client.flush(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let says = |part| status.message().contains(part);
        assert!(says("confirm: must be the word flush"), "{}", status.message());
    }
    assert_eq!(ingestor.store.counts("Patient").await.unwrap().held, 1);
}

#[tokio::test]
async fn the_status_says_how_everything_is() {
    let ingestor = Ingestor::start().await;
    let mut client = serve(&ingestor).await;
    ingestor.hapi.finds(&[state("a", 3)]);
    ingestor.hapi.published(0);
    ingestor.tail.finish_one().await;
    let status = client
        .get_status(proto::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(status.tail_healthy, "{}", status.tail_reason);
    let patient = status
        .types
        .iter()
        .find(|known| known.resource_type == "Patient")
        .unwrap();
    assert_eq!((patient.readings_held, patient.healed), (1, 1));
    let store = status.store.unwrap();
    assert!(store.appendonly && store.clock_skew_seconds.abs() < 1.0);
    ingestor.hapi.published(1_000);
    ingestor.tail.finish_one().await;
    e2e::deadline::until("the release", Duration::from_secs(3), async || {
        let status = client
            .clone()
            .get_status(proto::GetStatusRequest {})
            .await
            .unwrap()
            .into_inner();
        status
            .types
            .iter()
            .all(|known| known.readings_held == 0)
            .then_some(())
    })
    .await
    .unwrap();
}
