//! Every way in which a JWT can be wrong, and the ways in which it can be right.

use daemon::Proof;
use e2e::issuer::{Kind, SigningKey, claims, jwks, now, unsigned, with, with_a_shared_secret};
use identity::Refusal;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::believed::{AUDIENCE, Believing, config};

const ISSUER: &str = "https://issuer.test";

struct Known {
    believing: Believing,
    keys: [SigningKey; 3],
    _file: NamedTempFile,
}

fn known_with(changed: &Value) -> Known {
    let keys = Kind::ALL.map(|kind| SigningKey::new(kind, kind.algorithm()));
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), jwks(&keys.each_ref())).expect("written");
    let mut section = changed.clone();
    if section.get("jwt").is_none() {
        section["jwt"] =
            json!([{"issuer": ISSUER, "jwks_file": file.path(), "audiences": [AUDIENCE, "another"]}]);
    } else {
        section["jwt"][0]["jwks_file"] = json!(file.path());
    }
    Known {
        believing: Believing::start(&config(&section)),
        keys,
        _file: file,
    }
}

fn known() -> Known {
    known_with(&json!({}))
}

fn good() -> Value {
    claims(ISSUER, AUDIENCE, "system/Patient.rs system/researchflow.refresh")
}

#[tokio::test]
async fn a_token_of_each_algorithm_is_believed_and_worth_its_scopes() {
    let known = known();
    for key in &known.keys {
        // Again, as it is remembered.
        for _ in 0..2 {
            let held = known
                .believing
                .token(&key.token(&good()))
                .await
                .expect("a good token");
            assert_eq!(&*held.principal.name, "agent-of-a-test");
            assert_eq!(held.principal.proof, Proof::Jwt);
            assert!(held.grants.may_read("Patient") && !held.grants.may_read("Observation"));
        }
    }
}

#[tokio::test]
async fn what_servers_write_differently_is_read_all_the_same() {
    let known = known();
    let key = &known.keys[0];
    for claims in [
        with(&good(), "aud", json!(["https://elsewhere.test", AUDIENCE])),
        with(&good(), "scope", json!(["system/Patient.rs"])),
        with(
            &with(&good(), "scope", Value::Null),
            "scp",
            json!(["system/Patient.rs"]),
        ),
        with(
            &with(&good(), "scope", Value::Null),
            "scp",
            json!("openid system/Patient.rs"),
        ),
        with(
            &good(),
            "exp",
            json!(f64::from(u32::try_from(now()).expect("seconds")) + 200.5),
        ),
        with(&good(), "nbf", Value::Null),
        with(&good(), "iat", Value::Null),
        with(&good(), "further", json!({"nested": [1, 2.5, null]})),
    ] {
        let held = known.believing.token(&key.token(&claims)).await;
        assert!(held.is_ok_and(|held| held.grants.may_read("Patient")), "{claims}");
    }
    let of_client = with(&with(&good(), "sub", Value::Null), "client_id", json!("client-7"));
    let held = known
        .believing
        .token(&key.token(&of_client))
        .await
        .expect("it names its client");
    assert_eq!(&*held.principal.name, "client-7");
    let nothing = with(&good(), "scope", Value::Null);
    let held = known
        .believing
        .token(&key.token(&nothing))
        .await
        .expect("it is somebody");
    assert!(!held.grants.may_read_some());
    // The scheme's name may be written in any way.
    let shown = format!("bEARER {}", key.token(&good()));
    assert!(known.believing.shown(&[&shown]).await.is_ok());
}

#[tokio::test]
async fn claims_that_do_not_hold_are_refused_each_for_its_own_reason() {
    let known = known();
    let now = now();
    for (name, value, refusal) in [
        ("iss", json!("https://another.test"), Refusal::Issuer),
        ("iss", json!("https://issuer.test/"), Refusal::Issuer),
        ("iss", Value::Null, Refusal::Issuer),
        ("iss", json!([ISSUER]), Refusal::Malformed),
        ("aud", json!("https://elsewhere.test"), Refusal::Audience),
        ("aud", json!([]), Refusal::Audience),
        ("aud", Value::Null, Refusal::Audience),
        ("aud", json!(7), Refusal::Malformed),
        ("exp", json!(now - 100), Refusal::Expired),
        ("exp", json!(-1), Refusal::Expired),
        ("exp", Value::Null, Refusal::Lifetime),
        ("exp", json!(now + 3_700), Refusal::Lifetime),
        ("exp", json!(1e300), Refusal::Lifetime),
        ("exp", json!("tomorrow"), Refusal::Malformed),
        ("nbf", json!(now + 70), Refusal::NotYet),
        ("iat", json!(now + 70), Refusal::NotYet),
        ("iat", json!(now - 4_000), Refusal::Lifetime),
        ("sub", Value::Null, Refusal::Subject),
        ("sub", json!(""), Refusal::Subject),
        ("sub", json!("x".repeat(257)), Refusal::Subject),
        ("sub", json!("two\nlines"), Refusal::Subject),
    ] {
        for key in &known.keys {
            let token = key.token(&with(&good(), name, value.clone()));
            let said = known.believing.refuses(&token).await;
            assert_eq!(said, Some(refusal), "{name} = {value}");
        }
    }
}

#[tokio::test]
async fn clocks_may_be_apart_by_the_leeway_and_no_further() {
    let known = known();
    let token = known.keys[0].token(&good());
    for (seconds, refusal) in [
        (-75, Some(Refusal::NotYet)),
        (-50, None),
        (0, None),
        // Expires after 300 s, and holds for 60 s more, also where it is remembered.
        (345, None),
        (375, Some(Refusal::Expired)),
    ] {
        known.believing.at(seconds);
        assert_eq!(
            known.believing.refuses(&token).await,
            refusal,
            "{seconds} s from now"
        );
    }
    let strict = known_with(&json!({"leeway_seconds": 30, "max_lifetime_seconds": 100}));
    assert_eq!(
        strict.believing.refuses(&strict.keys[0].token(&good())).await,
        Some(Refusal::Lifetime)
    );
}

#[tokio::test]
async fn no_algorithm_but_those_of_the_issuer_is_taken() {
    let known = known();
    for key in &known.keys {
        for algorithm in [
            "none", "None", "NONE", "HS256", "HS384", "RS256", "PS384", "ES256", "EdDsa", "",
        ] {
            let head = json!({"alg": algorithm, "kid": key.id});
            let unsigned = format!("{}.", unsigned(&head, &good()));
            for token in [unsigned, key.signed(&head, &good())] {
                assert_eq!(
                    known.believing.refuses(&token).await,
                    Some(Refusal::Algorithm),
                    "{algorithm}"
                );
            }
        }
        // The public key, which everybody has, as the secret of HS256.
        let head = json!({"alg": "HS256", "kid": key.id});
        for secret in [key.public(), key.jwk().to_string().into_bytes()] {
            let token = with_a_shared_secret(&secret, &head, &good());
            assert_eq!(known.believing.refuses(&token).await, Some(Refusal::Algorithm));
        }
        // The right head, no signature or another one's.
        let head = json!({"alg": key.id, "kid": key.id});
        let none = format!("{}.", unsigned(&head, &good()));
        assert_eq!(known.believing.refuses(&none).await, Some(Refusal::Signature));
        for other in known.keys.iter().filter(|other| other.id != key.id) {
            assert_eq!(
                known.believing.refuses(&other.signed(&head, &good())).await,
                Some(Refusal::Signature),
                "{} as {}",
                other.id,
                key.id
            );
            // A key is of one algorithm: another's head does not find it.
            let head = json!({"alg": other.id, "kid": key.id});
            assert_eq!(
                known.believing.refuses(&other.signed(&head, &good())).await,
                Some(Refusal::Key)
            );
        }
    }
    let only_ed =
        known_with(&json!({"jwt": [{"issuer": ISSUER, "audiences": [AUDIENCE], "algorithms": ["EdDSA"]}]}));
    assert_eq!(
        only_ed.believing.refuses(&only_ed.keys[0].token(&good())).await,
        None
    );
    assert_eq!(
        only_ed.believing.refuses(&only_ed.keys[1].token(&good())).await,
        Some(Refusal::Algorithm)
    );
}

#[tokio::test]
async fn a_signature_that_was_changed_or_is_of_another_key_is_refused() {
    let known = known();
    for (key, kind) in known.keys.iter().zip(Kind::ALL) {
        let token = key.token(&good());
        let (signed, _) = token.rsplit_once('.').expect("three parts");
        let (head, _) = signed.split_once('.').expect("three parts");
        let others = unsigned(&json!({}), &with(&good(), "scope", json!("system/*.rs")));
        let (_, others_claims) = others.split_once('.').expect("two parts");
        let (_, signature) = token.rsplit_once('.').expect("three parts");
        let changed = format!("{head}.{others_claims}.{signature}");
        assert_eq!(
            known.believing.refuses(&changed).await,
            Some(Refusal::Signature),
            "{kind:?}"
        );
        if kind != Kind::Rsa {
            let foreign = SigningKey::new(kind, &key.id).token(&good());
            assert_eq!(
                known.believing.refuses(&foreign).await,
                Some(Refusal::Signature),
                "{kind:?}"
            );
        }
        let unknown = key.signed(&json!({"alg": key.id, "kid": "another"}), &good());
        assert_eq!(
            known.believing.refuses(&unknown).await,
            Some(Refusal::Key),
            "{kind:?}"
        );
        // Without a name: the only key of its algorithm.
        let unnamed = key.signed(&json!({"alg": key.id}), &good());
        assert_eq!(known.believing.refuses(&unnamed).await, None, "{kind:?}");
        let critical = key.signed(&json!({"alg": key.id, "kid": key.id, "crit": ["exp"]}), &good());
        assert_eq!(
            known.believing.refuses(&critical).await,
            Some(Refusal::Malformed),
            "{kind:?}"
        );
        // A key that the token brings itself is not looked at.
        let brought = SigningKey::new(kind, "brought");
        let head =
            json!({"alg": key.id, "kid": "brought", "jwk": brought.jwk(), "jku": "http://127.0.0.1:1/"});
        assert_eq!(
            known.believing.refuses(&brought.signed(&head, &good())).await,
            Some(Refusal::Key)
        );
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused_before_it_is_looked_at() {
    let known = known();
    for (shown, refusal) in [
        (&[][..], Refusal::Missing),
        (&["Basic dXNlcjpwYXNz"], Refusal::NotBearer),
        (&["Bearer"], Refusal::NotBearer),
        (&["Bearer  "], Refusal::NotBearer),
        (&["Bearer a b"], Refusal::NotBearer),
        (&["Bearer a", "Bearer b"], Refusal::NotBearer),
        (&["Bearer garbage"], Refusal::UnknownToken),
        (&["Bearer a.b"], Refusal::UnknownToken),
        (&["Bearer a.b.c.d"], Refusal::UnknownToken),
        (&["Bearer a.b.c"], Refusal::Malformed),
        (&["Bearer .."], Refusal::Malformed),
        (&["Bearer e30.e30.e30"], Refusal::Malformed),
    ] {
        assert_eq!(
            known.believing.shown(shown).await.err(),
            Some(refusal),
            "{shown:?}"
        );
    }
    let long = known.keys[0].token(&with(&good(), "further", json!("x".repeat(8_000))));
    assert_eq!(known.believing.refuses(&long).await, Some(Refusal::TooLong));
    // A head with two algorithms.
    let twice = format!(
        "{}.{}",
        base64_of(r#"{"alg":"EdDSA","alg":"none"}"#),
        base64_of(&good().to_string())
    );
    assert_eq!(
        known.believing.refuses(&format!("{twice}.")).await,
        Some(Refusal::Malformed)
    );
}

fn base64_of(text: &str) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(text)
}
