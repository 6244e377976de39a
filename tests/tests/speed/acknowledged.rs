//! Law 5: what is acknowledged is safe, and what cannot be is not.

use std::time::Duration;

use reqwest::header;

use crate::{
    kit::{Ingestor, SECRET, http},
    webhook::{expect_outcome, good, put},
};

#[tokio::test]
async fn law_5_while_redis_is_away_nothing_is_acknowledged() {
    let mut ingestor = Ingestor::start().await;
    ingestor.redis.kill9();
    let url = format!("{}/fhir/Patient/a", ingestor.base);
    for request in [http().put(&url).body(good("a", 1)), http().delete(&url)] {
        let response = request.bearer_auth(SECRET).send().await.unwrap();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        expect_outcome(response, 503, "redis").await;
    }
    ingestor.redis.restart().await.unwrap();
    assert_eq!(
        put(&ingestor, "/fhir/Patient/a", good("a", 1)).await.status(),
        200
    );
}

#[tokio::test]
async fn law_5_a_delete_is_acknowledged_while_the_tail_is_known_to_come_by() {
    let ingestor = Ingestor::start().await;
    let delete = async || {
        http()
            .delete(format!("{}/fhir/Patient/a", ingestor.base))
            .bearer_auth(SECRET)
            .send()
            .await
            .unwrap()
    };
    assert_eq!(delete().await.status(), 200);
    ingestor.hapi.fails(true);
    e2e::deadline::until("an unhealthy tail", Duration::from_secs(5), async || {
        ingestor
            .tail
            .health(daemon::Clock::now(&daemon::SystemClock))
            .err()
    })
    .await
    .unwrap();
    expect_outcome(delete().await, 503, "tail").await;
    assert_eq!(
        put(&ingestor, "/fhir/Patient/a", good("a", 1)).await.status(),
        200,
        "a body is safe in redis"
    );
    ingestor.hapi.fails(false);
    ingestor.tail.finish_one().await;
    assert_eq!(delete().await.status(), 200);
    // Where nothing was ever read, the full refresh that must come reads it.
    ingestor.hapi.needs_full_refresh();
    ingestor.store.flush(&["Patient".into()]).await.unwrap();
    ingestor.tail.finish_one().await;
    assert_eq!(delete().await.status(), 200);
}
