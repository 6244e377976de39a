//! The requests that a real HAPI was recorded to send, and the state that its database had when it had sent them all.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime};
use e2e::tables::{self, Version};
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;
use sqlx::PgPool;

const RECORDED: &str = include_str!("../../fixtures/hapi-requests.ndjson");

/// A request as it was received.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// What it was recorded for.
    pub(crate) case: String,
    pub(crate) method: Method,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// The last version of a resource that HAPI has told of.
#[derive(Clone)]
pub(crate) struct Last {
    resource_type: String,
    id: String,
    version: i64,
    updated: NaiveDateTime,
    stored: String,
}

/// All requests, in file order.
pub(crate) fn all() -> Vec<Recorded> {
    RECORDED
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let headers = line["headers"].as_array().unwrap().iter();
            Recorded {
                case: text(&line["case"]),
                method: line["method"].as_str().unwrap().parse().unwrap(),
                // The one without a payload was recorded at an endpoint of another name.
                path: text(&line["path"]).replace("/empty", "/fhir"),
                headers: headers
                    .map(|pair| (text(&pair[0]), text(&pair[1])))
                    .filter(|(name, _)| !matches!(name.as_str(), "Host" | "Connection" | "Content-Length"))
                    .collect(),
                body: text(&line["body"]),
            }
        })
        .collect()
}

impl Recorded {
    /// Sends it to a webhook.
    pub(crate) async fn send(&self, client: &Client, base: &str) -> StatusCode {
        let mut request = client.request(self.method.clone(), format!("{base}{}", self.path));
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(self.body.clone()).send().await.unwrap().status()
    }
}

/// HAPI's final state: each resource in the highest version of the recorded ones. The only DELETE, of version 9, was followed by others.
pub(crate) fn finals() -> Vec<Last> {
    let mut finals: BTreeMap<(String, String), Last> = BTreeMap::new();
    for request in all() {
        let Ok(Value::Object(mut resource)) = serde_json::from_str(&request.body) else {
            continue;
        };
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (resource_type, id) = (text(&resource["resourceType"]), text(&resource["id"]));
        resource.remove("id");
        let meta = resource.remove("meta").unwrap();
        let updated = DateTime::parse_from_rfc3339(meta["lastUpdated"].as_str().unwrap()).unwrap();
        let last = Last {
            resource_type: resource_type.clone(),
            id: id.clone(),
            version: meta["versionId"].as_str().unwrap().parse().unwrap(),
            updated: updated.naive_utc(),
            stored: Value::Object(resource).to_string(),
        };
        let known = finals.entry((resource_type, id));
        known
            .and_modify(|known| {
                if known.version < last.version {
                    *known = last.clone();
                }
            })
            .or_insert(last);
    }
    finals.into_values().collect()
}

/// Commits that state to HAPI's tables.
pub(crate) async fn commit_finals(hapi: &PgPool) -> anyhow::Result<()> {
    let mut transaction = hapi.begin().await?;
    for last in finals() {
        let version = Version {
            resource_type: &last.resource_type,
            id: &last.id,
            version: last.version,
            updated: last.updated,
            stored: Some(&last.stored),
        };
        tables::write(&mut transaction, None, &version).await?;
    }
    Ok(transaction.commit().await?)
}
