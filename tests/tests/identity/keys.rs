//! An issuer's keys over HTTP: fetched, kept, changed, and missing.

use std::time::{Duration, Instant};

use e2e::{
    deadline::until,
    issuer::{Issuer, Kind, SigningKey, claims},
};
use identity::Refusal;
use serde_json::{Value, json};

use crate::believed::{AUDIENCE, Believing, config};

const PATIENCE: Duration = Duration::from_secs(20);

fn believing(issuer: &Issuer, changed: &Value) -> Believing {
    let mut section = changed.clone();
    section["jwt"] =
        json!([{"issuer": issuer.name(), "jwks_url": issuer.jwks_url(), "audiences": [AUDIENCE]}]);
    Believing::start(&config(&section))
}

fn token(issuer: &Issuer, key: &SigningKey) -> String {
    key.token(&claims(&issuer.name(), AUDIENCE, "system/Patient.rs"))
}

#[tokio::test]
async fn a_key_that_is_new_is_fetched_at_once_and_one_that_is_gone_no_longer_counts() -> anyhow::Result<()> {
    let (first, second) = (
        SigningKey::new(Kind::Ed, "first"),
        SigningKey::new(Kind::Ec, "second"),
    );
    let issuer = Issuer::start(&[&first]).await?;
    let believing = believing(&issuer, &json!({"jwks_refresh_seconds": 1}));
    let (old, new) = (token(&issuer, &first), token(&issuer, &second));
    assert_eq!(believing.refuses(&old).await, None);
    issuer.publish(&[&first, &second]);
    assert_eq!(
        believing.refuses(&new).await,
        None,
        "the next look is in a second"
    );
    assert_eq!(believing.refuses(&old).await, None);
    issuer.publish(&[&second]);
    // By itself, with the next look; a token that is remembered is no exception.
    until("the first key no longer counts", PATIENCE, || async {
        (believing.refuses(&old).await == Some(Refusal::Key)).then_some(())
    })
    .await?;
    assert_eq!(believing.refuses(&new).await, None);
    Ok(())
}

#[tokio::test]
async fn unknown_keys_do_not_make_us_ask_the_issuer_each_time() -> anyhow::Result<()> {
    let key = SigningKey::new(Kind::Ed, "first");
    let issuer = Issuer::start(&[&key]).await?;
    let believing = believing(&issuer, &json!({"jwks_retry_seconds": 0.3}));
    let good = token(&issuer, &key);
    assert_eq!(believing.refuses(&good).await, None);
    let before = issuer.asked();
    let unknown: Vec<String> = (0..200)
        .map(|number| token(&issuer, &SigningKey::new(Kind::Ed, &format!("unknown-{number}"))))
        .collect();
    for wave in 1..=3 {
        let refused = futures::future::join_all(unknown.iter().map(|token| believing.refuses(token))).await;
        assert!(
            refused.iter().all(|refused| *refused == Some(Refusal::Key)),
            "{refused:?}"
        );
        let asked = issuer.asked() - before;
        assert!(asked <= 2 * wave, "asked {asked} times for {} tokens", 200 * wave);
    }
    // One after the other: each waits for its turn.
    let (began, before) = (Instant::now(), issuer.asked());
    for token in unknown.iter().take(5) {
        assert_eq!(believing.refuses(token).await, Some(Refusal::Key));
    }
    let (asked, turns) = (issuer.asked() - before, began.elapsed().as_millis() / 300);
    assert!(
        u128::try_from(asked)? <= turns + 2,
        "asked {asked} times in {turns} turns"
    );
    assert_eq!(believing.refuses(&good).await, None);
    // One that comes right after such a wave waits for the next look, and is not refused.
    let new = SigningKey::new(Kind::Ed, "second");
    issuer.publish(&[&key, &new]);
    assert_eq!(believing.refuses(&token(&issuer, &new)).await, None);
    Ok(())
}

#[tokio::test]
async fn many_who_come_with_a_new_key_at_once_wait_for_one_fetch() -> anyhow::Result<()> {
    let (first, second) = (
        SigningKey::new(Kind::Ed, "first"),
        SigningKey::new(Kind::Ed, "second"),
    );
    let issuer = Issuer::start(&[&first]).await?;
    let believing = believing(&issuer, &json!({"jwks_retry_seconds": 0.5}));
    assert_eq!(believing.refuses(&token(&issuer, &first)).await, None);
    let before = issuer.asked();
    issuer.publish(&[&first, &second]);
    let new = token(&issuer, &second);
    let refused = futures::future::join_all((0..100).map(|_| believing.refuses(&new))).await;
    assert_eq!(refused.iter().flatten().count(), 0, "{refused:?}");
    // Two, where the first one's began before the others came.
    assert!(
        issuer.asked() <= before + 2,
        "asked {} times",
        issuer.asked() - before
    );
    Ok(())
}

#[tokio::test]
async fn while_the_issuer_is_away_the_last_keys_hold_for_a_bounded_time() -> anyhow::Result<()> {
    let key = SigningKey::new(Kind::Ed, "first");
    let issuer = Issuer::start(&[&key]).await?;
    let times = json!({"jwks_refresh_seconds": 0.2, "jwks_retry_seconds": 0.2, "jwks_stale_seconds": 3});
    let believing = believing(&issuer, &times);
    let good = token(&issuer, &key);
    for spoil in [
        |issuer: &Issuer| issuer.answers(503, ""),
        |issuer: &Issuer| issuer.answers(200, "<html>a login</html>"),
        |issuer: &Issuer| issuer.answers(200, "{\"keys\":[]}"),
        |issuer: &Issuer| issuer.answers(200, &"x".repeat(1_000_000)),
        |issuer: &Issuer| issuer.redirects(&issuer.jwks_url()),
        |issuer: &Issuer| issuer.is_silent(),
    ] {
        issuer.publish(&[&key]);
        until("the keys are there", PATIENCE, || async {
            believing.refuses(&good).await.is_none().then_some(())
        })
        .await?;
        spoil(&issuer);
        let asked = issuer.asked();
        until("it was asked again", PATIENCE, || async {
            (issuer.asked() > asked).then_some(())
        })
        .await?;
        assert_eq!(believing.refuses(&good).await, None, "what it held holds");
    }
    // Another's token too, though it waits for a fetch: it is the keys that are missing, not the token that is bad.
    until("they hold no longer", PATIENCE, || async {
        (believing.refuses(&good).await == Some(Refusal::KeysAway)).then_some(())
    })
    .await?;
    issuer.publish(&[&key]);
    until("they hold again", PATIENCE, || async {
        believing.refuses(&good).await.is_none().then_some(())
    })
    .await?;
    let metrics = believing.metrics.encode()?;
    for outcome in ["ok", "failed"] {
        let line = format!("researchflow_auth_key_fetches_total{{outcome=\"{outcome}\"}}");
        assert!(metrics.contains(&line), "{metrics}");
    }
    Ok(())
}

#[tokio::test]
async fn an_issuer_that_comes_later_is_believed_from_then_on() -> anyhow::Result<()> {
    let key = SigningKey::new(Kind::Rsa, "first");
    let issuer = Issuer::start(&[&key]).await?;
    issuer.answers(502, "");
    let believing = believing(&issuer, &json!({"jwks_retry_seconds": 0.2}));
    let good = token(&issuer, &key);
    assert_eq!(believing.refuses(&good).await, Some(Refusal::KeysAway));
    issuer.publish(&[&key]);
    until("its keys were fetched", PATIENCE, || async {
        believing.refuses(&good).await.is_none().then_some(())
    })
    .await
}

#[tokio::test]
async fn keys_of_one_issuer_are_worth_nothing_for_another() -> anyhow::Result<()> {
    let (ours, theirs) = (
        SigningKey::new(Kind::Ed, "same"),
        SigningKey::new(Kind::Ed, "same"),
    );
    let (one, two) = (Issuer::start(&[&ours]).await?, Issuer::start(&[&theirs]).await?);
    let jwt = [&one, &two].map(
        |issuer| json!({"issuer": issuer.name(), "jwks_url": issuer.jwks_url(), "audiences": [AUDIENCE]}),
    );
    let believing = Believing::start(&config(&json!({ "jwt": jwt })));
    assert_eq!(believing.refuses(&token(&one, &ours)).await, None);
    assert_eq!(believing.refuses(&token(&two, &theirs)).await, None);
    assert_eq!(
        believing.refuses(&token(&one, &theirs)).await,
        Some(Refusal::Signature)
    );
    assert_eq!(
        believing.refuses(&token(&two, &ours)).await,
        Some(Refusal::Signature)
    );
    Ok(())
}

#[tokio::test]
async fn a_file_of_keys_and_a_file_of_tokens_are_followed() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (jwks_file, tokens_file) = (folder.path().join("jwks.json"), folder.path().join("tokens"));
    let (first, second) = (
        SigningKey::new(Kind::Ed, "first"),
        SigningKey::new(Kind::Ed, "second"),
    );
    let line = |name: &str, token: &str| {
        let digest = crate::whole::digest(token);
        format!("{name} {digest} system/*.rs\n")
    };
    std::fs::write(&jwks_file, e2e::issuer::jwks(&[&first]))?;
    std::fs::write(&tokens_file, line("a", "one"))?;
    let believing = Believing::start(&config(&json!({
        "static_tokens_file": tokens_file,
        "jwt": [{"issuer": "https://issuer.test", "jwks_file": jwks_file, "audiences": [AUDIENCE]}],
    })));
    let of = |key: &SigningKey| key.token(&claims("https://issuer.test", AUDIENCE, "system/*.rs"));
    assert_eq!(believing.refuses("one").await, None);
    assert_eq!(believing.refuses(&of(&first)).await, None);
    std::fs::write(&tokens_file, line("a", "one") + &line("b", "two"))?;
    std::fs::write(&jwks_file, e2e::issuer::jwks(&[&second]))?;
    until("both are read again", PATIENCE, || async {
        let both =
            believing.refuses("two").await.is_none() && believing.refuses(&of(&second)).await.is_none();
        both.then_some(())
    })
    .await?;
    until("the first key no longer counts", PATIENCE, || async {
        (believing.refuses(&of(&first)).await == Some(Refusal::Key)).then_some(())
    })
    .await?;
    // Half a file changes nothing.
    std::fs::write(&tokens_file, line("c", "three") + "d nonsense\n")?;
    std::fs::write(&jwks_file, "{\"keys\":")?;
    tokio::time::timeout(Duration::from_secs(3), async {
        while believing.refuses("three").await.is_some() {
            assert_eq!(believing.refuses("one").await, None);
            assert_eq!(believing.refuses(&of(&second)).await, None);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect_err("three must stay unknown");
    Ok(())
}
