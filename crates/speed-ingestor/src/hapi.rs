//! HAPI's REST, for the little that is asked of it: the Subscription, and a resource of which only the id was told.
//!
//! No error shows an address (it may hold a password) or what HAPI says of a resource.

use std::{path::PathBuf, sync::Arc, time::Duration};

use api::{Code, ServiceError};
use axum::body::Bytes;
use daemon::Secret;
use reqwest::{
    Client, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect::Policy,
};

/// What is sent and taken.
pub(crate) const FHIR_JSON: &str = "application/fhir+json";
/// How long HAPI may take for one request: it writes in its database.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What HAPI asks of us: the value of the `Authorization` header.
#[derive(Debug, Clone)]
pub enum Authorization {
    /// Nothing.
    None,
    /// Always the same.
    Fixed(Secret),
    /// What this file holds, read for each request: whoever renews a token writes it there.
    File(PathBuf),
}

/// HAPI's REST interface. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Hapi(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    http: Client,
    base: String,
    authorization: Authorization,
}

/// What HAPI answers.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

impl Hapi {
    /// `base` without a slash at its end. Needs a default crypto provider of rustls.
    pub fn new(base: String, authorization: Authorization) -> Result<Self, ServiceError> {
        // What is sent holds secrets: it goes to HAPI itself and nowhere else.
        let http = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|error| ServiceError::internal(&error))?;
        Ok(Self(Arc::new(Inner {
            http,
            base,
            authorization,
        })))
    }

    /// The current version of a resource; `None` if HAPI has none, or a deleted one.
    pub async fn read(
        &self,
        resource_type: &str,
        id: &str,
        most_bytes: usize,
    ) -> Result<Option<Bytes>, ServiceError> {
        let path = format!("{resource_type}/{id}");
        let Answer { status, body } = self.ask(Method::GET, &path, None, most_bytes).await?;
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
            status if status.is_success() => Ok(Some(body)),
            status => Err(ServiceError::new(
                Code::Unavailable,
                format!("hapi answers {status} when a resource is read"),
            )),
        }
    }

    /// One request below the base.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
        most_bytes: usize,
    ) -> Result<Answer, ServiceError> {
        let mut request = self
            .0
            .http
            .request(method, format!("{}/{path}", self.0.base))
            .header(ACCEPT, FHIR_JSON);
        if let Some(authorization) = self.authorization().await? {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, FHIR_JSON).body(body);
        }
        let mut response = request.send().await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let mut whole = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| unreachable(&error))? {
            whole.extend_from_slice(&part);
            if whole.len() > most_bytes {
                return Err(ServiceError::new(
                    Code::Unavailable,
                    format!("hapi answers with more than {most_bytes} bytes"),
                ));
            }
        }
        let body = whole.into();
        Ok(Answer { status, body })
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, ServiceError> {
        let read;
        let (value, key) = match &self.0.authorization {
            Authorization::None => return Ok(None),
            Authorization::Fixed(secret) => (secret.expose(), "hapi.authorization"),
            Authorization::File(file) => {
                read = tokio::fs::read_to_string(file).await.map_err(|error| {
                    ServiceError::new(
                        Code::Precondition,
                        format!("hapi.authorization_file cannot be read: {}", error.kind()),
                    )
                })?;
                (read.trim(), "hapi.authorization_file")
            }
        };
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| ServiceError::new(Code::Precondition, format!("{key} cannot stand in a header")))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
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
