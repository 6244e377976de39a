//! A client of HAPI's REST API: what an application would write, with the version that HAPI answered.

use std::collections::BTreeMap;
use std::sync::Once;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Entries of a transaction; more make HAPI slower, not faster.
const TRANSACTION: usize = 100;

/// HAPI refuses a write now and then (409), though nobody else writes that resource; it tries again by itself if it is asked to.
const RETRY: (&str, &str) = ("x-retry-on-version-conflict", "retry; max-retries=5");

/// What HAPI answered to a write.
#[derive(Debug, Clone)]
pub struct Written {
    /// Resource type.
    pub resource_type: String,
    /// Id.
    pub id: String,
    /// Version, from the ETag; of a delete, from the location that the answer's body names, else unknown.
    pub version: Option<i64>,
    /// When the answer was there.
    pub answered: Instant,
    /// From the request to the answer.
    pub took: Duration,
}

/// A client of one FHIR server.
#[derive(Debug, Clone)]
pub struct Fhir {
    base: String,
    client: reqwest::Client,
}

impl Fhir {
    /// A client of the server at a base URL.
    pub fn new(base: &str) -> anyhow::Result<Self> {
        Ok(Self {
            base: base.trim_end_matches('/').to_owned(),
            client: http_client()?,
        })
    }

    /// Whether the server answers with its capabilities.
    pub async fn is_ready(&self) -> bool {
        let request = self
            .client
            .get(format!("{}/metadata", self.base))
            .timeout(Duration::from_secs(10));
        request
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
    }

    /// Creates or updates: PUT under the resource's own type and id.
    pub async fn put(&self, resource: &Value) -> anyhow::Result<Written> {
        let (resource_type, id) = key(resource)?;
        self.write(Method::PUT, &resource_type, &id, Some(resource)).await
    }

    /// Deletes.
    pub async fn delete(&self, resource_type: &str, id: &str) -> anyhow::Result<Written> {
        self.write(Method::DELETE, resource_type, id, None).await
    }

    async fn write(
        &self,
        method: Method,
        resource_type: &str,
        id: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Written> {
        let start = Instant::now();
        let mut request = self
            .client
            .request(method, format!("{}/{resource_type}/{id}", self.base))
            .header(RETRY.0, RETRY.1);
        if let Some(body) = body {
            request = request
                .header("content-type", "application/fhir+json")
                .body(serde_json::to_vec(body)?);
        }
        let answer = request.send().await?;
        let (status, etag) = (answer.status(), answer.headers().get("etag").cloned());
        let text = answer.text().await?;
        let answered = Instant::now();
        if !status.is_success() {
            bail!("HAPI answered {status} to a write of a {resource_type}: {text}");
        }
        let etag = etag
            .as_ref()
            .and_then(|etag| etag.to_str().ok())
            .and_then(version_of_etag);
        Ok(Written {
            resource_type: resource_type.to_owned(),
            id: id.to_owned(),
            version: etag.or_else(|| version_of_location(&text)),
            answered,
            took: answered - start,
        })
    }

    /// Reads the current state; none if it does not exist or is deleted.
    pub async fn get(&self, resource_type: &str, id: &str) -> anyhow::Result<Option<Value>> {
        let answer = self
            .client
            .get(format!("{}/{resource_type}/{id}", self.base))
            .send()
            .await?;
        match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status if status.is_success() => Ok(Some(serde_json::from_slice(&answer.bytes().await?)?)),
            status => bail!("HAPI answered {status} to a read of a {resource_type}"),
        }
    }

    /// All versions of all resources of a type that HAPI has, by id and number; no body where the resource was deleted.
    pub async fn history(
        &self,
        resource_type: &str,
    ) -> anyhow::Result<BTreeMap<(String, i64), Option<Value>>> {
        let mut versions = BTreeMap::new();
        let mut next = Some(format!("{}/{resource_type}/_history?_count=200", self.base));
        while let Some(url) = next.take() {
            let answer = self.client.get(url).send().await?.error_for_status()?;
            let mut bundle: Value = serde_json::from_slice(&answer.bytes().await?)?;
            if let Some(entries) = bundle["entry"].as_array_mut() {
                for entry in entries {
                    let key = version_of_entry(entry).context("an entry of a history without its version")?;
                    versions.insert(key, Some(entry["resource"].take()).filter(|body| !body.is_null()));
                }
            }
            let links = bundle["link"].as_array();
            let link = links.and_then(|links| links.iter().find(|link| link["relation"] == "next"));
            next = link.and_then(|link| link["url"].as_str()).map(str::to_owned);
        }
        Ok(versions)
    }

    /// Adds tags, profiles or security labels without a new version.
    pub async fn meta_add(&self, resource_type: &str, id: &str, meta: &Value) -> anyhow::Result<()> {
        self.meta("$meta-add", resource_type, id, meta).await
    }

    /// Takes some away in the same way.
    pub async fn meta_delete(&self, resource_type: &str, id: &str, meta: &Value) -> anyhow::Result<()> {
        self.meta("$meta-delete", resource_type, id, meta).await
    }

    async fn meta(&self, operation: &str, resource_type: &str, id: &str, meta: &Value) -> anyhow::Result<()> {
        let parameters =
            json!({"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": meta}]});
        self.post(&format!("/{resource_type}/{id}/{operation}"), &parameters)
            .await?;
        Ok(())
    }

    /// Number of resources of a type, as HAPI counts them now.
    pub async fn count(&self, resource_type: &str) -> anyhow::Result<i64> {
        let url = format!("{}/{resource_type}?_summary=count", self.base);
        // HAPI would answer from a search of a minute ago.
        let answer = self
            .client
            .get(url)
            .header("cache-control", "no-cache")
            .send()
            .await?
            .error_for_status()?;
        let bundle: Value = serde_json::from_slice(&answer.bytes().await?)?;
        bundle["total"]
            .to_string()
            .parse()
            .context("a count without a total")
    }

    /// Puts resources in transactions of 100, in their order.
    pub async fn load(&self, resources: &[Value]) -> anyhow::Result<()> {
        for chunk in resources.chunks(TRANSACTION) {
            let mut entries = Vec::with_capacity(chunk.len());
            for resource in chunk {
                let (resource_type, id) = key(resource)?;
                let url = format!("{resource_type}/{id}");
                entries.push(json!({"resource": resource, "request": {"method": "PUT", "url": url}}));
            }
            self.transaction(entries).await?;
        }
        Ok(())
    }

    /// One transaction of entries as FHIR has them; answers HAPI's bundle.
    pub async fn transaction(&self, entries: Vec<Value>) -> anyhow::Result<Value> {
        let bundle = json!({"resourceType": "Bundle", "type": "transaction", "entry": entries});
        self.post("", &bundle).await.context("a transaction failed")
    }

    /// Removes every trace of a resource that was deleted before; of one that was not, its versions but the current one.
    pub async fn expunge(&self, resource_type: &str, id: &str) -> anyhow::Result<()> {
        let parameters = json!({"resourceType": "Parameters", "parameter": [
            {"name": "expungeDeletedResources", "valueBoolean": true},
            {"name": "expungePreviousVersions", "valueBoolean": true},
        ]});
        self.post(&format!("/{resource_type}/{id}/$expunge"), &parameters)
            .await?;
        Ok(())
    }

    async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let answer = self
            .client
            .post(format!("{}{path}", self.base))
            .header(RETRY.0, RETRY.1)
            .header("content-type", "application/fhir+json")
            .body(serde_json::to_vec(body)?)
            .send()
            .await?;
        let (status, text) = (answer.status(), answer.text().await?);
        anyhow::ensure!(status.is_success(), "HAPI answered {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }
}

/// An HTTP client without a proxy, for servers of this machine.
pub fn http_client() -> anyhow::Result<reqwest::Client> {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // An error says that this program has chosen one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    Ok(reqwest::Client::builder().no_proxy().tcp_nodelay(true).build()?)
}

/// The versions that HAPI's answer to a transaction names, in the order of its entries.
pub fn versions_of_transaction(bundle: &Value) -> Vec<Option<i64>> {
    let entries = bundle["entry"].as_array();
    let version = |entry: &Value| version_of_etag(entry["response"]["etag"].as_str()?);
    entries.into_iter().flatten().map(version).collect()
}

fn key(resource: &Value) -> anyhow::Result<(String, String)> {
    let member = |name: &str| {
        resource[name]
            .as_str()
            .map(str::to_owned)
            .context("a resource without type or id")
    };
    Ok((member("resourceType")?, member("id")?))
}

fn version_of_etag(etag: &str) -> Option<i64> {
    etag.trim_start_matches("W/").trim_matches('"').parse().ok()
}

/// Id and number of what a history's entry is of: its request names both, or the id alone beside an ETag.
fn version_of_entry(entry: &Value) -> Option<(String, i64)> {
    let body = &entry["resource"];
    if let (Some(id), Some(version)) = (body["id"].as_str(), body["meta"]["versionId"].as_str()) {
        return Some((id.to_owned(), version.parse().ok()?));
    }
    let url = entry["request"]["url"].as_str()?;
    let path = url.split_once("/_history/").map_or(url, |(path, _)| path);
    let id = path.rsplit('/').next()?.to_owned();
    let version =
        version_of_location(url).or_else(|| version_of_etag(entry["response"]["etag"].as_str()?))?;
    Some((id, version))
}

/// A delete's answer names the version in its text: `…/_history/3`.
fn version_of_location(text: &str) -> Option<i64> {
    let (_, after) = text.split_once("/_history/")?;
    let digits = after
        .find(|c: char| !c.is_ascii_digit())
        .map_or(after, |end| &after[..end]);
    digits.parse().ok()
}
