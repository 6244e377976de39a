//! Law 5 while the memory of Redis is short: a webhook is acknowledged without its preview only where the tail is known to come by.

use std::time::Duration;

use e2e::redis::{Redis, Settings};
use e2e::server::Lifetime;
use reqwest::{StatusCode, header};

use crate::kit::{Ingestor, LIMITS, SECRET, http, store};
use daemon::{Clock as _, SystemClock};

async fn put(ingestor: &Ingestor, bytes: usize) -> reqwest::Response {
    let filling = "x".repeat(bytes);
    let body = format!(
        r#"{{"resourceType":"Patient","id":"a","meta":{{"versionId":"3","lastUpdated":"2026-01-31T10:09:44.706+00:00"}},"x":"{filling}"}}"#
    );
    http()
        .put(format!("{}/fhir/Patient/a", ingestor.base))
        .bearer_auth(SECRET)
        .body(body)
        .send()
        .await
        .unwrap()
}

async fn previews(ingestor: &Ingestor) -> u64 {
    ingestor.store.counts("Patient").await.unwrap().previews
}

#[tokio::test]
async fn law_5_where_there_is_no_room_the_tail_stands_in_while_it_is_well() {
    let ingestor = Ingestor::start().await;
    assert_eq!(put(&ingestor, 10).await.status(), StatusCode::OK);
    assert_eq!(previews(&ingestor).await, 1);
    ingestor.taking.gate.open_nearly_full();
    let before = ingestor.hapi.readings();
    assert_eq!(put(&ingestor, 10).await.status(), StatusCode::OK);
    assert_eq!(
        previews(&ingestor).await,
        1,
        "what memory is left is for readings"
    );
    ingestor.tail.finish_one().await;
    assert!(ingestor.hapi.readings() > before);

    ingestor.hapi.fails(true);
    unhealthy(&ingestor).await;
    let refused = put(&ingestor, 10).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "1");
    let said = refused.text().await.unwrap();
    assert!(
        said.contains("nearly full") && said.contains("previews are not taken"),
        "{said}"
    );

    ingestor.taking.gate.open();
    assert_eq!(
        put(&ingestor, 10).await.status(),
        StatusCode::OK,
        "there is room again"
    );
}

#[tokio::test]
async fn law_5_a_redis_that_is_full_all_the_same_is_no_reason_to_lose_or_to_lie() {
    let options = vec![("maxmemory".to_owned(), "6mb".to_owned())];
    let redis = Redis::start_with(Settings {
        options,
        lifetime: Lifetime::Program,
    })
    .await
    .unwrap();
    let store = store(&redis);
    let ingestor = Ingestor::start_over((redis, store), LIMITS, None).await;
    let mut accepted = 0;
    while accepted < previews(&ingestor).await + 3 {
        assert_eq!(
            put(&ingestor, 200_000).await.status(),
            StatusCode::OK,
            "the tail is well"
        );
        accepted += 1;
        assert!(accepted < 200, "redis is never full");
    }
    assert!(previews(&ingestor).await > 5);
    ingestor.hapi.fails(true);
    unhealthy(&ingestor).await;
    let refused = put(&ingestor, 200_000).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    let said = refused.text().await.unwrap();
    assert!(said.contains("out of memory"), "{said}");
}

async fn unhealthy(ingestor: &Ingestor) {
    e2e::deadline::until("an unhealthy tail", Duration::from_secs(10), async || {
        ingestor.tail.health(SystemClock.now()).err()
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_redis_that_cannot_wait_for_its_disk_is_refused() {
    let redis = Redis::start().await.unwrap();
    let settings = speed_ingestor::store::StoreSettings {
        wait_for_disk: true,
        ..redis.store_settings()
    };
    let store = speed_ingestor::store::SpeedStore::open(settings).unwrap();
    let version = store.health(&SystemClock).await.unwrap().version;
    let checked = store.check(true, &SystemClock).await;
    let state = crate::kit::state("a", 1);
    let offered = store.offer_preview("Patient", &state, crate::kit::at(1)).await;
    // Debian's Redis of today has no WAITAOF; a newer one waits, and tells so.
    if version.starts_with("7.0") {
        assert!(checked.unwrap_err().to_string().contains("7.2"));
        offered.unwrap_err();
    } else {
        checked.unwrap();
        assert_eq!(offered.unwrap().dropped, 0);
    }
}
