//! Our Subscription in HAPI: one for each installation, for all types that views need; made right again whenever it is not.
//!
//! It is a reconciler: on a timer, on a change of the types and on demand it compares what HAPI has with what should be, and writes only if they differ
//! (each write makes HAPI activate it afresh). Subscriptions of other ids are never touched. The webhook only makes the speed layer faster: while
//! HAPI cannot be reached, the tail goes on.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use api::{Code, ServiceError, proto::speed::SubscriptionStatus};
use daemon::Shutdown;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    auth::SharedSecret,
    hapi::{Answer, FHIR_JSON, Hapi},
    measures::{InstallationLabel, Measures},
    needed::Needed,
};

const SEND_DELETES: &str = "http://hapifhir.io/fhir/StructureDefinition/subscription-send-delete-messages";
/// A Subscription, or what HAPI says of one, is not larger.
const MOST_BYTES: usize = 1024 * 1024;
/// While HAPI is away it is asked more often: it may just be starting.
const RETRY: Duration = Duration::from_secs(2);

/// What the Subscription should be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Our base as HAPI reaches it.
    pub endpoint: String,
    /// Tells installations on one HAPI apart.
    pub installation: String,
    /// What HAPI is to send in a header.
    pub secret: SharedSecret,
}

/// Keeps the Subscription right. Cheap to clone.
#[derive(Clone)]
pub struct Subscriptions(Arc<Inner>);

struct Inner {
    hapi: Hapi,
    wanted: Wanted,
    needed: Needed,
    measures: Measures,
    /// One check at a time.
    checking: AsyncMutex<()>,
    last: Mutex<Option<SubscriptionStatus>>,
}

impl Subscriptions {
    /// A keeper that has not checked anything yet.
    pub fn new(hapi: Hapi, wanted: Wanted, needed: Needed, measures: Measures) -> Self {
        let (checking, last) = (AsyncMutex::default(), Mutex::default());
        Self(Arc::new(Inner {
            hapi,
            wanted,
            needed,
            measures,
            checking,
            last,
        }))
    }

    /// What the last check found.
    pub fn last(&self) -> Option<SubscriptionStatus> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks at every interval and at each change of the types or the secret, until the stop.
    pub async fn run(self, interval: Duration, shutdown: Shutdown) {
        let (mut types, mut secrets) = (self.0.needed.changes(), self.0.wanted.secret.changes());
        loop {
            types.mark_unchanged();
            secrets.mark_unchanged();
            let Some(result) = shutdown.unless_stopped(self.check()).await else {
                return;
            };
            let pause = if result.is_ok() {
                interval
            } else {
                interval.min(RETRY)
            };
            let rest = async {
                tokio::select! {
                    _ = types.changed() => {}
                    _ = secrets.changed() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            };
            if shutdown.unless_stopped(rest).await.is_none() {
                return;
            }
        }
    }

    /// Makes the Subscription right, and says what had to be done.
    pub async fn check(&self) -> Result<SubscriptionStatus, ServiceError> {
        let _one_at_a_time = self.0.checking.lock().await;
        let before = self.last();
        let result = self.0.reconcile().await;
        let status = match &result {
            Ok(status) => status.clone(),
            Err(error) => SubscriptionStatus {
                id: self.0.id(),
                resource_types: self.0.types(),
                reason: error.message.clone(),
                ..SubscriptionStatus::default()
            },
        };
        let changed = before
            .as_ref()
            .is_none_or(|before| (&before.status, &before.reason) != (&status.status, &status.reason));
        if changed || !matches!(status.action.as_str(), "nothing" | "") {
            tracing::info!(
                status = status.status,
                action = status.action,
                reason = status.reason,
                "subscription in hapi"
            );
        }
        self.0
            .measures
            .subscription_active
            .get_or_create(&InstallationLabel {
                installation: self.0.wanted.installation.clone(),
            })
            .set(i64::from(status.status == "active" && status.reason.is_empty()));
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        result
    }
}

impl Inner {
    async fn reconcile(&self) -> Result<SubscriptionStatus, ServiceError> {
        // Looked at once: what becomes known while HAPI answers is the next check's.
        let known = self.needed.types();
        let types = known.as_deref().unwrap_or_default().to_vec();
        let known = known.is_some();
        let found = self.get().await?;
        if types.is_empty() {
            // Not known yet: what is there stays. Known to be none: ours goes.
            let action = if known && found.is_some() {
                self.remove().await?
            } else {
                "nothing"
            };
            return Ok(self.status(
                "",
                &types,
                action,
                if known {
                    "no view needs a resource type"
                } else {
                    "it is not known yet which types views need"
                },
            ));
        }
        let wanted = subscription(&self.wanted, &types);
        let status = found.as_ref().map(status_of).unwrap_or_default();
        let action = match &found {
            None => "created",
            Some(found) if !is_same(found, &wanted) => "repaired",
            Some(_) if matches!(status, "active" | "requested") => "nothing",
            Some(_) => "activated",
        };
        if action == "nothing" {
            return Ok(self.status(status, &types, action, ""));
        }
        let written = self.put(&wanted).await?;
        let status = match status_of(&written) {
            "" => "requested",
            status => status,
        };
        Ok(self.status(status, &types, action, ""))
    }

    fn types(&self) -> Vec<String> {
        self.needed
            .types()
            .map(|types| types.to_vec())
            .unwrap_or_default()
    }

    fn id(&self) -> String {
        format!("researchflow-{}", self.wanted.installation)
    }

    fn status(&self, status: &str, types: &[String], action: &str, reason: &str) -> SubscriptionStatus {
        SubscriptionStatus {
            id: self.id(),
            resource_types: types.to_vec(),
            status: status.to_owned(),
            action: action.to_owned(),
            reason: reason.to_owned(),
        }
    }

    async fn get(&self) -> Result<Option<Value>, ServiceError> {
        let Answer { status, body } = self.ask(Method::GET, None).await?;
        match status {
            // 410: deleted; it may be put again.
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status if status.is_success() => serde_json::from_slice(&body)
                .map(Some)
                .map_err(|_| ServiceError::new(Code::Unavailable, "hapi's answer is not JSON")),
            status => Err(refusal("reading the Subscription", status, &body)),
        }
    }

    async fn put(&self, wanted: &Value) -> Result<Value, ServiceError> {
        let Answer { status, body } = self.ask(Method::PUT, Some(wanted.to_string())).await?;
        if status.is_success() {
            Ok(serde_json::from_slice(&body).unwrap_or_default())
        } else {
            Err(refusal("writing the Subscription", status, &body))
        }
    }

    async fn remove(&self) -> Result<&'static str, ServiceError> {
        let Answer { status, body } = self.ask(Method::DELETE, None).await?;
        if status.is_success() || status == StatusCode::GONE {
            Ok("removed")
        } else {
            Err(refusal("removing the Subscription", status, &body))
        }
    }

    async fn ask(&self, method: Method, body: Option<String>) -> Result<Answer, ServiceError> {
        let path = format!("Subscription/{}", self.id());
        self.hapi.ask(method, &path, body, MOST_BYTES).await
    }
}

/// The Subscription as it should be.
fn subscription(wanted: &Wanted, types: &[String]) -> Value {
    json!({
        "resourceType": "Subscription",
        "id": format!("researchflow-{}", wanted.installation),
        "status": "requested",
        "reason": "live views of ResearchFlow",
        "criteria": format!("[{}]", types.join(",")),
        "channel": {
            "extension": [{"url": SEND_DELETES, "valueBoolean": true}],
            "type": "rest-hook",
            "endpoint": wanted.endpoint,
            "payload": FHIR_JSON,
            "header": [wanted.secret.header_line().expose()],
        },
    })
}

/// Whether HAPI has it as it should be, but for what HAPI itself changes: status, error, meta.
fn is_same(found: &Value, wanted: &Value) -> bool {
    let own = |subscription: &Value| {
        let mut own = subscription.clone();
        if let Some(members) = own.as_object_mut() {
            members.retain(|name, _| !matches!(name.as_str(), "meta" | "status" | "error" | "text"));
        }
        own
    };
    own(found) == own(wanted)
}

/// What HAPI says of it: a word of FHIR's, and no other, whoever it is that answers.
fn status_of(subscription: &Value) -> &'static str {
    match subscription["status"].as_str() {
        None => "",
        Some("requested") => "requested",
        Some("active") => "active",
        Some("error") => "error",
        Some("off") => "off",
        Some(_) => "unknown",
    }
}

/// HAPI refuses. Its words may quote what it was sent, which has the webhook's secret in it: of them only the number is told, by which HAPI's own log is read.
fn refusal(doing: &str, status: StatusCode, body: &[u8]) -> ServiceError {
    let outcome: Value = serde_json::from_slice(body).unwrap_or_default();
    let diagnostics = outcome["issue"][0]["diagnostics"].as_str().unwrap_or_default();
    let reason = number_of(diagnostics).unwrap_or("see its log");
    let code = if status.is_server_error() {
        Code::Unavailable
    } else {
        Code::Precondition
    };
    ServiceError::new(code, format!("{doing}: hapi answers {status}: {reason}"))
}

/// HAPI's number of an error, such as `HAPI-0389`, which begins its text.
fn number_of(diagnostics: &str) -> Option<&str> {
    let digits = diagnostics.strip_prefix("HAPI-")?;
    let length = digits.bytes().take_while(u8::is_ascii_digit).count();
    (1..=5)
        .contains(&length)
        .then(|| &diagnostics[.."HAPI-".len() + length])
}

#[cfg(test)]
mod tests {
    use axum::http::header::AUTHORIZATION;
    use daemon::Secret;

    use super::*;
    use crate::hapi::Authorization;

    #[test]
    fn of_what_hapi_says_only_the_number_is_told() {
        let told = |diagnostics: &str| {
            let body = json!({"resourceType": "OperationOutcome", "issue": [{"diagnostics": diagnostics}]});
            refusal("writing", StatusCode::BAD_REQUEST, body.to_string().as_bytes()).message
        };
        assert_eq!(
            told("HAPI-0389: planted"),
            "writing: hapi answers 400 Bad Request: HAPI-0389"
        );
        for other in ["planted", "HAPI-planted", "HAPI-1234567890: planted", ""] {
            let message = told(other);
            assert!(
                message.ends_with("see its log") && !message.contains("planted"),
                "{message}"
            );
        }
    }

    fn wanted_of(secret: &SharedSecret) -> Wanted {
        Wanted {
            endpoint: "http://speed/fhir".into(),
            installation: "one".into(),
            secret: secret.clone(),
        }
    }

    fn secret() -> SharedSecret {
        SharedSecret::new(AUTHORIZATION, &Secret::new("s"), &[])
    }

    fn wanted() -> Value {
        subscription(&wanted_of(&secret()), &["Condition".into(), "Patient".into()])
    }

    /// A HAPI that keeps one Subscription, and counts what is written.
    #[derive(Clone, Default)]
    struct FakeHapi(Arc<Mutex<(Option<Value>, usize)>>);

    impl FakeHapi {
        async fn serve(&self) -> String {
            use axum::{Json, extract::State, http::StatusCode, routing::get};
            let read = async |State(hapi): State<FakeHapi>| match hapi.0.lock().unwrap().0.clone() {
                Some(found) => (StatusCode::OK, Json(found)),
                None => (StatusCode::GONE, Json(Value::Null)),
            };
            let write = async |State(hapi): State<FakeHapi>, body: String| {
                let mut kept = hapi.0.lock().unwrap();
                *kept = (Some(serde_json::from_str(&body).unwrap()), kept.1 + 1);
                body
            };
            let remove = async |State(hapi): State<FakeHapi>| hapi.0.lock().unwrap().0 = None;
            let routes = axum::Router::new()
                .route(
                    "/fhir/Subscription/researchflow-one",
                    get(read).put(write).delete(remove),
                )
                .with_state(self.clone());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(axum::serve(listener, routes).into_future());
            format!("http://{address}/fhir")
        }

        fn change(&self, pointer: &str, value: Value) {
            *self
                .0
                .lock()
                .unwrap()
                .0
                .as_mut()
                .unwrap()
                .pointer_mut(pointer)
                .unwrap() = value;
        }
    }

    #[tokio::test]
    async fn whatever_happens_to_the_subscription_the_next_check_mends_it() {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let (hapi, needed) = (FakeHapi::default(), Needed::default());
        let secret = secret();
        let rest = Hapi::new(hapi.serve().await, Authorization::Fixed(Secret::new("Bearer x"))).unwrap();
        let ours = Subscriptions::new(rest, wanted_of(&secret), needed.clone(), Measures::default());
        let check = async || ours.check().await.unwrap();
        assert_eq!(check().await.action, "nothing", "not known yet which types");
        needed.set(vec!["Patient".into()]);
        assert_eq!(check().await.action, "created");
        hapi.change("/status", json!("active"));
        let status = check().await;
        assert_eq!(
            (status.action.as_str(), status.status.as_str()),
            ("nothing", "active")
        );
        hapi.change("/channel/endpoint", json!("http://elsewhere"));
        assert_eq!(check().await.action, "repaired");
        hapi.change("/status", json!("off"));
        assert_eq!(check().await.action, "activated");
        hapi.0.lock().unwrap().0 = None;
        assert_eq!(check().await.action, "created");
        needed.set(vec!["Patient".into(), "Goal".into()]);
        assert_eq!(check().await.action, "repaired");
        secret.change(&Secret::new("another"), &[Secret::new("s")]);
        assert_eq!(check().await.action, "repaired");
        assert_eq!(hapi.0.lock().unwrap().1, 6);
        needed.set(Vec::new());
        assert_eq!(check().await.action, "removed");
        assert_eq!(ours.last().unwrap().action, "removed");
    }

    #[tokio::test]
    async fn types_that_become_known_while_hapi_answers_are_no_reason_to_remove_it() {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let (fake, needed) = (FakeHapi::default(), Needed::default());
        let rest = Hapi::new(fake.serve().await, Authorization::None).unwrap();
        let ours = Subscriptions::new(rest, wanted_of(&secret()), needed.clone(), Measures::default());
        needed.set(vec!["Patient".into()]);
        ours.check().await.unwrap();
        // As after a restart: nothing is known when the check begins.
        let unknown = Needed::default();
        let rest = Hapi::new(fake.serve().await, Authorization::None).unwrap();
        let later = Subscriptions::new(rest, wanted_of(&secret()), unknown.clone(), Measures::default());
        let told = async { unknown.set(vec!["Patient".into()]) };
        let (checked, _) = tokio::join!(later.check(), told);
        assert_eq!(checked.unwrap().action, "nothing");
        assert!(fake.0.lock().unwrap().0.is_some(), "it was removed");
    }

    #[tokio::test]
    async fn a_hapi_that_is_away_is_a_reason_not_a_failure() {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let needed = Needed::default();
        needed.set(vec!["Patient".into()]);
        let rest = Hapi::new("http://user:pass@127.0.0.1:9".into(), Authorization::None).unwrap();
        let ours = Subscriptions::new(rest, wanted_of(&secret()), needed, Measures::default());
        let error = ours.check().await.unwrap_err();
        assert_eq!(error.code, Code::Unavailable);
        let reason = ours.last().unwrap().reason;
        assert!(
            reason.contains("cannot be reached") && !reason.contains("pass"),
            "{reason}"
        );
    }

    #[test]
    fn one_subscription_covers_all_types_and_asks_for_deletes() {
        let wanted = wanted();
        assert_eq!(wanted["id"], "researchflow-one");
        assert_eq!(wanted["criteria"], "[Condition,Patient]");
        assert_eq!(wanted["channel"]["extension"][0]["valueBoolean"], true);
        assert_eq!(wanted["channel"]["payload"], FHIR_JSON);
    }

    #[test]
    fn what_hapi_adds_is_no_difference_and_what_someone_changed_is() {
        let mut found = wanted();
        found["meta"] = json!({"versionId": "2", "tag": [{"code": "IN_MEMORY"}]});
        found["status"] = json!("active");
        assert!(is_same(&found, &wanted()));
        for (pointer, other) in [
            ("/channel/endpoint", json!("http://elsewhere")),
            ("/criteria", json!("[Patient]")),
            ("/channel/header", json!([])),
            ("/channel/payload", json!("")),
        ] {
            let mut changed = found.clone();
            *changed.pointer_mut(pointer).unwrap() = other;
            assert!(!is_same(&changed, &wanted()), "{pointer}");
        }
        found["end"] = json!("2020-01-01T00:00:00Z");
        assert!(!is_same(&found, &wanted()));
    }
}
