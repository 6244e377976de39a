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
use daemon::{Secret, Shutdown};
use reqwest::{
    Client, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use serde_json::{Value, json};
use tokio::sync::Mutex as AsyncMutex;

use crate::{measures::Measures, needed::Needed};

const SEND_DELETES: &str = "http://hapifhir.io/fhir/StructureDefinition/subscription-send-delete-messages";
const FHIR_JSON: &str = "application/fhir+json";
/// How long HAPI may take for one request: it writes in its database.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What the Subscription should be.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// HAPI's base, without a slash at its end.
    pub hapi: String,
    /// Value of the `Authorization` header that HAPI asks of us, if any.
    pub authorization: Option<Secret>,
    /// Our base as HAPI reaches it.
    pub endpoint: String,
    /// Tells installations on one HAPI apart.
    pub installation: String,
    /// The header line that HAPI is to send.
    pub header_line: Secret,
}

/// Keeps the Subscription right. Cheap to clone.
#[derive(Clone)]
pub struct Subscriptions(Arc<Inner>);

struct Inner {
    http: Client,
    wanted: Wanted,
    needed: Needed,
    measures: Measures,
    /// One check at a time.
    checking: AsyncMutex<()>,
    last: Mutex<Option<SubscriptionStatus>>,
}

impl Subscriptions {
    /// A keeper that has not checked anything yet. Needs a default crypto provider of rustls.
    pub fn new(wanted: Wanted, needed: Needed, measures: Measures) -> Result<Self, ServiceError> {
        let mut headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(FHIR_JSON))]);
        if let Some(authorization) = &wanted.authorization {
            let mut value = HeaderValue::from_str(authorization.expose()).map_err(|_| {
                ServiceError::new(Code::Invalid, "hapi.authorization cannot stand in a header")
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let http = Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|error| ServiceError::internal(&error))?;
        let (checking, last) = (AsyncMutex::default(), Mutex::default());
        Ok(Self(Arc::new(Inner {
            http,
            wanted,
            needed,
            measures,
            checking,
            last,
        })))
    }

    /// What the last check found.
    pub fn last(&self) -> Option<SubscriptionStatus> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks at every interval and at each change of the types, until the stop.
    pub async fn run(self, interval: Duration, shutdown: Shutdown) {
        let mut changes = self.0.needed.changes();
        loop {
            changes.mark_unchanged();
            let Some(result) = shutdown.unless_stopped(self.check()).await else {
                return;
            };
            // While HAPI is away it is asked more often: it may just be starting.
            let pause = if result.is_ok() {
                interval
            } else {
                interval.min(Duration::from_secs(2))
            };
            let rest = tokio::time::timeout(pause, changes.changed());
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
            .set(i64::from(status.status == "active" && status.reason.is_empty()));
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
        result
    }
}

impl Inner {
    async fn reconcile(&self) -> Result<SubscriptionStatus, ServiceError> {
        let types = self.types();
        let found = self.get().await?;
        let known = self.needed.types().is_some();
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
        let status = found
            .as_ref()
            .and_then(|found| found["status"].as_str())
            .unwrap_or_default();
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
        Ok(self.status(
            written["status"].as_str().unwrap_or("requested"),
            &types,
            action,
            "",
        ))
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

    fn url(&self) -> String {
        format!("{}/Subscription/{}", self.wanted.hapi, self.id())
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
        let response = self
            .http
            .get(self.url())
            .send()
            .await
            .map_err(|error| unreachable(&error))?;
        match response.status() {
            // 410: deleted; it may be put again.
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status if status.is_success() => response
                .json()
                .await
                .map(Some)
                .map_err(|error| unreachable(&error)),
            status => Err(refusal(
                "reading the Subscription",
                status,
                &response.text().await.unwrap_or_default(),
            )),
        }
    }

    async fn put(&self, wanted: &Value) -> Result<Value, ServiceError> {
        let request = self
            .http
            .put(self.url())
            .header(CONTENT_TYPE, FHIR_JSON)
            .body(wanted.to_string());
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        match response.status() {
            status if status.is_success() => Ok(response.json().await.unwrap_or_default()),
            status => Err(refusal(
                "writing the Subscription",
                status,
                &response.text().await.unwrap_or_default(),
            )),
        }
    }

    async fn remove(&self) -> Result<&'static str, ServiceError> {
        let response = self
            .http
            .delete(self.url())
            .send()
            .await
            .map_err(|error| unreachable(&error))?;
        match response.status() {
            status if status.is_success() || status == StatusCode::GONE => Ok("removed"),
            status => Err(refusal(
                "removing the Subscription",
                status,
                &response.text().await.unwrap_or_default(),
            )),
        }
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
            "header": [wanted.header_line.expose()],
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

/// HAPI does not answer. The error's own text may hold the address with its user part, so it is not shown.
fn unreachable(error: &reqwest::Error) -> ServiceError {
    let what = match () {
        () if error.is_timeout() => "hapi does not answer in time",
        () if error.is_connect() => "hapi cannot be reached",
        () => "the request to hapi failed",
    };
    ServiceError::new(Code::Unavailable, what)
}

/// HAPI refuses: its own reason is about the Subscription, which holds nothing of patients.
fn refusal(doing: &str, status: StatusCode, body: &str) -> ServiceError {
    let outcome: Value = serde_json::from_str(body).unwrap_or_default();
    let reason: String = outcome["issue"][0]["diagnostics"]
        .as_str()
        .unwrap_or("without a reason")
        .chars()
        .take(300)
        .collect();
    let code = if status.is_server_error() {
        Code::Unavailable
    } else {
        Code::Precondition
    };
    ServiceError::new(code, format!("{doing}: hapi answers {status}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted() -> Value {
        let wanted = Wanted {
            hapi: "http://hapi/fhir".into(),
            authorization: None,
            endpoint: "http://speed/fhir".into(),
            installation: "one".into(),
            header_line: Secret::new("Authorization: Bearer s"),
        };
        subscription(&wanted, &["Condition".into(), "Patient".into()])
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
        let wanted = Wanted {
            hapi: hapi.serve().await,
            authorization: Some(Secret::new("Bearer x")),
            endpoint: "http://speed/fhir".into(),
            installation: "one".into(),
            header_line: Secret::new("Authorization: Bearer s"),
        };
        let ours = Subscriptions::new(wanted, needed.clone(), Measures::default()).unwrap();
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
        assert_eq!(hapi.0.lock().unwrap().1, 5);
        needed.set(Vec::new());
        assert_eq!(check().await.action, "removed");
        assert_eq!(ours.last().unwrap().action, "removed");
    }

    #[tokio::test]
    async fn a_hapi_that_is_away_is_a_reason_not_a_failure() {
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let needed = Needed::default();
        needed.set(vec!["Patient".into()]);
        let wanted = Wanted {
            hapi: "http://user:pass@127.0.0.1:9".into(),
            authorization: None,
            endpoint: "http://speed/fhir".into(),
            installation: "one".into(),
            header_line: Secret::new("x: s"),
        };
        let ours = Subscriptions::new(wanted, needed, Measures::default()).unwrap();
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
