//! Every method of every service, by every kind of credentials: a table of outcomes.

use std::collections::BTreeMap;

use anyhow::Context as _;
use e2e::{
    issuer::{Kind, SigningKey, now, unsigned, with, with_a_shared_secret},
    rpc::{Call, Said, framed},
};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    table::{Row, methods, table},
    whole::{Asking, EVERYTHING, OF_OPERATOR, Whole},
};

/// What a method needs, said a second time: by what the page of the documentation has.
const DOCUMENTED: &str = include_str!("../../../docs/identity.md");

/// What is in the column "needs" of the documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    Nothing,
    Proof,
    Reading,
    ReadingAll,
    Operate,
    OperateAndReadingAll,
    Ingest,
    Refresh,
}

impl Needs {
    fn named(text: &str) -> Option<Self> {
        Some(match text {
            "nothing" => Self::Nothing,
            "a proof" => Self::Proof,
            "reading" => Self::Reading,
            "reading of all types" => Self::ReadingAll,
            "`operate`" => Self::Operate,
            "`operate` and reading of all types" => Self::OperateAndReadingAll,
            "`ingest`" => Self::Ingest,
            "`refresh`" => Self::Refresh,
            _ => return None,
        })
    }

    /// All scopes but those that are needed, as far as that can be; `None` where any proof will do.
    pub(crate) fn all_but(self) -> Option<&'static str> {
        Some(match self {
            Self::Nothing | Self::Proof => return None,
            Self::Reading => {
                "system/researchflow.operate system/researchflow.ingest system/researchflow.refresh system/Patient.r system/*.cud patient/*.rs user/*.rs system/*.rs?_tag=x"
            }
            Self::ReadingAll => {
                "system/Patient.rs system/Condition.rs system/*.r system/researchflow.operate system/researchflow.ingest system/researchflow.refresh"
            }
            Self::Operate => "system/*.rs system/researchflow.ingest system/researchflow.refresh",
            Self::OperateAndReadingAll => "system/Patient.rs system/researchflow.operate",
            Self::Ingest => "system/*.rs system/researchflow.operate system/researchflow.refresh",
            Self::Refresh => "system/*.rs system/researchflow.operate system/researchflow.ingest",
        })
    }
}

/// The rows of the documentation's table: what is named in the first column needs what the second one says.
pub(crate) fn documented() -> BTreeMap<String, Needs> {
    let mut known = BTreeMap::new();
    for line in DOCUMENTED.lines() {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let (Some(named), Some(needs)) = (cells.next(), cells.next()) else {
            continue;
        };
        let Some(needs) = Needs::named(needs) else {
            continue;
        };
        for name in named.split('`').skip(1).step_by(2) {
            assert!(
                known.insert(name.to_owned(), needs).is_none(),
                "{name} stands there twice"
            );
        }
    }
    known
}

/// Credentials that nobody is believed by, each with the reason that programs are told.
pub(crate) fn unbelieved(asking: &Asking<'_>) -> Vec<(&'static str, Option<String>, &'static str)> {
    let good = asking.claims(EVERYTHING);
    let (key, now) = (asking.key, now());
    let bearer = |token: String| Some(format!("Bearer {token}"));
    let head = json!({"alg": "EdDSA", "kid": key.id});
    let claimed = |name: &str, value: Value| bearer(key.token(&with(&good, name, value)));
    let none = format!("{}.", unsigned(&json!({"alg": "none", "kid": key.id}), &good));
    let shared = with_a_shared_secret(&key.public(), &json!({"alg": "HS256", "kid": key.id}), &good);
    let refused = "TOKEN_REFUSED";
    vec![
        ("none", None, "CREDENTIALS_MISSING"),
        (
            "of another scheme",
            Some("Basic dXNlcjpwYXNz".into()),
            "CREDENTIALS_MISSING",
        ),
        ("garbage", bearer("garbage".into()), refused),
        ("garbage of three parts", bearer("a.b.c".into()), refused),
        ("expired", claimed("exp", json!(now - 100)), "TOKEN_EXPIRED"),
        (
            "not yet valid",
            claimed("nbf", json!(now + 200)),
            "TOKEN_NOT_YET_VALID",
        ),
        ("without an end", claimed("exp", Value::Null), refused),
        ("alg none", bearer(none), refused),
        ("HS256 with the public key", bearer(shared), refused),
        (
            "for another audience",
            claimed("aud", json!("https://elsewhere.test")),
            refused,
        ),
        (
            "of another issuer",
            claimed("iss", json!("https://elsewhere.test")),
            refused,
        ),
        (
            "of an unknown key",
            bearer(SigningKey::new(Kind::Ed, "unknown").token(&good)),
            refused,
        ),
        (
            "signed by a stranger",
            bearer(SigningKey::new(Kind::Ed, &key.id).token(&good)),
            refused,
        ),
        (
            "without a signature",
            bearer(format!("{}.", unsigned(&head, &good))),
            refused,
        ),
        ("too long", claimed("further", json!("x".repeat(8_192))), refused),
    ]
}

#[test]
fn the_documentation_has_every_method_and_no_other() -> anyhow::Result<()> {
    let methods: Vec<String> = methods()?.into_keys().map(|path| short(&path)).collect();
    let documented = documented();
    for method in &methods {
        assert!(
            documented.contains_key(method),
            "docs/identity.md: what does {method} need?"
        );
    }
    for named in documented.keys().filter(|named| !named.starts_with('/')) {
        assert!(
            methods.contains(named),
            "docs/identity.md: no contract has {named}"
        );
    }
    Ok(())
}

/// `Service/Method` of a path.
fn short(path: &str) -> String {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
    let service = service.rsplit('.').next().unwrap_or_default();
    format!("{service}/{method}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_answers_every_kind_of_credentials_as_the_table_says() -> anyhow::Result<()> {
    let whole = Whole::start().await?;
    every_method(&whole.asking().await?).await?;
    told_of_it(&whole).await?;
    beside_it(&whole).await
}

/// Fails unless each method answers each kind of credentials as the table says.
pub(crate) async fn every_method(asking: &Asking<'_>) -> anyhow::Result<()> {
    let (documented, mut faults, mut asked) = (documented(), Vec::new(), 0);
    for (path, row) in table() {
        let needs = documented[&short(&path)];
        let channel = asking.channel(&path)?;
        let send = async |credentials: Option<&str>| -> anyhow::Result<Said> {
            let headers: Vec<_> = credentials
                .map(|value| ("authorization", value))
                .into_iter()
                .collect();
            let call = Call {
                headers: &headers,
                first_only: row.endless,
                ..Call::to(&path)
            };
            call.send(channel, framed(&row.good))
                .await
                .with_context(|| path.clone())
        };
        for (what, credentials, reason) in unbelieved(asking) {
            asked += 1;
            let said = send(credentials.as_deref()).await?;
            let (code, reason) = match (asking.certified && credentials.is_none(), needs.all_but()) {
                (false, _) => (Code::Unauthenticated, reason),
                (true, Some(_)) => (Code::PermissionDenied, "FORBIDDEN"),
                (true, None) => {
                    expect(&path, "a certificate alone", &said, &row, &mut faults);
                    continue;
                }
            };
            let told = said.details().error_info().map(|info| info.reason.clone());
            if said.code() != code || told.as_deref() != Some(reason) || said.answered {
                faults.push(format!(
                    "{path}: credentials {what}: {:?} {told:?} {:?}",
                    said.code(),
                    said.message()
                ));
            }
        }
        if let Some(scopes) = needs.all_but() {
            asked += 1;
            let said = send(Some(&format!("Bearer {}", asking.token(scopes)))).await?;
            let told = said.details().error_info().map(|info| info.reason.clone());
            if said.code() != Code::PermissionDenied || told.as_deref() != Some("FORBIDDEN") || said.answered
            {
                faults.push(format!(
                    "{path}: scopes {scopes}: {:?} {:?}",
                    said.code(),
                    said.message()
                ));
            }
        } else {
            expect(
                &path,
                "no scope",
                &send(Some(&format!("Bearer {}", asking.token("")))).await?,
                &row,
                &mut faults,
            );
        }
        for (what, token) in [
            ("a JWT", asking.token(EVERYTHING)),
            ("a static token", OF_OPERATOR.to_owned()),
        ] {
            asked += 1;
            let said = send(Some(&format!("Bearer {token}"))).await?;
            expect(&path, what, &said, &row, &mut faults);
        }
    }
    assert!(asked >= 30 * 17, "only {asked} calls were made");
    assert!(
        faults.is_empty(),
        "{} faults of {asked}:\n{}",
        faults.len(),
        faults.join("\n")
    );
    Ok(())
}

fn expect(path: &str, what: &str, said: &Said, row: &Row, faults: &mut Vec<String>) {
    if said.code() != row.of_good {
        faults.push(format!("{path}: {what}: {:?} {:?}", said.code(), said.message()));
    }
}

/// Refusals are counted by a reason, and no log has a token.
async fn told_of_it(whole: &Whole) -> anyhow::Result<()> {
    for (name, daemon) in whole.daemons() {
        let metrics = daemon.metrics().await?;
        for reason in [
            "missing",
            "not_bearer",
            "unknown_token",
            "malformed",
            "expired",
            "not_yet",
            "lifetime",
            "algorithm",
            "audience",
            "issuer",
            "key",
            "signature",
            "too_long",
            "forbidden",
        ] {
            let line = format!("researchflow_auth_failures_total{{reason=\"{reason}\"}}");
            assert!(metrics.contains(&line), "{name} has not counted {reason}");
        }
        let log = daemon.log();
        for secret in ["eyJ", "garbage", OF_OPERATOR] {
            assert!(!log.contains(secret), "{name} has logged a token");
        }
        assert!(!log.contains("a panic"), "{name} has panicked");
    }
    Ok(())
}

/// Health, reflection and what does not exist need no credentials; the webhook and gRPC do not open each other's door.
async fn beside_it(whole: &Whole) -> anyhow::Result<()> {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
    };
    for service in ["BatchService", "SpeedService", "ServingService"] {
        let channel = whole.channel(service).await?;
        let request = HealthCheckRequest {
            service: String::new(),
        };
        HealthClient::new(channel.clone()).check(request).await?;
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let asked = futures::stream::iter([request]);
        let mut told = ServerReflectionClient::new(channel.clone())
            .server_reflection_info(asked)
            .await?
            .into_inner();
        assert!(told.message().await?.is_some());
        let absent = Call::to("/researchflow.serving.v1.ServingService/NoSuchMethod");
        assert_eq!(
            absent.send(&channel, framed(&[])).await?.code(),
            Code::Unimplemented
        );
    }
    let client = e2e::fhir::http_client()?;
    let webhook = format!("http://{}/fhir/Patient/x", whole.speed.address("http")?);
    let status = client
        .delete(&webhook)
        .bearer_auth(whole.token(EVERYTHING))
        .send()
        .await?
        .status();
    assert_eq!(status.as_u16(), 401);
    let status = client
        .delete(&webhook)
        .bearer_auth(e2e::house::SECRET)
        .send()
        .await?
        .status();
    assert!(status.is_success(), "{status}");
    let secret = format!("Bearer {}", e2e::house::SECRET);
    let call = Call {
        headers: &[("authorization", &secret)],
        ..Call::to("/researchflow.speed.v1.SpeedService/GetStatus")
    };
    let said = call
        .send(&whole.channel("SpeedService").await?, framed(&[]))
        .await?;
    assert_eq!(said.code(), Code::Unauthenticated);
    Ok(())
}
