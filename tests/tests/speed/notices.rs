//! Notifications that tell only an id: the tail reads the resource; while it does not come by, HAPI's REST is asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::Path, http::StatusCode, routing::get};
use reqwest::Response;
use speed_ingestor::hapi::{Authorization, Hapi};

use crate::kit::{Ingestor, LIMITS, SECRET, http, redis};
use daemon::{Clock as _, SystemClock};

/// HAPI's REST, which knows `Patient/a` in version 4; tells how often it was asked.
async fn rest() -> (Hapi, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let read = async move |Path((resource_type, id)): Path<(String, String)>| {
        count.fetch_add(1, Ordering::SeqCst);
        let body = format!(
            r#"{{"resourceType":"{resource_type}","id":"{id}","meta":{{"versionId":"4","lastUpdated":"2026-01-31T10:09:44.706+00:00"}}}}"#
        );
        match id.as_str() {
            "a" => (StatusCode::OK, body),
            _ => (StatusCode::GONE, String::new()),
        }
    };
    let routes = Router::new().route("/fhir/{type}/{id}", get(read));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}/fhir", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, routes).into_future());
    let _installed = rustls::crypto::ring::default_provider().install_default();
    (Hapi::new(base, Authorization::None).unwrap(), asked)
}

async fn notify(ingestor: &Ingestor, id: &str) -> Response {
    let body = format!(
        r#"{{"resourceType":"Bundle","type":"subscription-notification","entry":[
           {{"resource":{{"resourceType":"SubscriptionStatus","notificationEvent":[{{"focus":{{"reference":"Patient/{id}"}}}}]}}}},
           {{"fullUrl":"http://hapi/fhir/Patient/{id}","request":{{"method":"PUT","url":"Patient/{id}"}}}}]}}"#
    );
    http()
        .post(format!("{}/fhir", ingestor.base))
        .bearer_auth(SECRET)
        .body(body)
        .send()
        .await
        .unwrap()
}

#[tokio::test]
async fn an_id_alone_is_read_by_the_tail_or_else_from_hapi() {
    let (hapi, asked) = rest().await;
    let ingestor = Ingestor::start_over(redis().await, LIMITS, Some(hapi)).await;
    let previews = async || ingestor.store.counts("Patient").await.unwrap().previews;
    assert_eq!(notify(&ingestor, "a").await.status(), 200);
    assert_eq!(
        (asked.load(Ordering::SeqCst), previews().await),
        (0, 0),
        "the tail comes by"
    );

    ingestor.hapi.fails(true);
    e2e::deadline::until("an unhealthy tail", Duration::from_secs(10), async || {
        ingestor.tail.health(SystemClock.now()).err()
    })
    .await
    .unwrap();
    assert_eq!(notify(&ingestor, "a").await.status(), 200);
    assert_eq!((asked.load(Ordering::SeqCst), previews().await), (1, 1));
    assert_eq!(
        notify(&ingestor, "b").await.status(),
        503,
        "a deletion is the tail's to see"
    );
}
