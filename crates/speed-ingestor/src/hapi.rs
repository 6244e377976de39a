//! HAPI's REST, for the little that is asked of it: the Subscription, and a resource of which only the id was told.
//!
//! No error shows an address (it may hold a password) or what HAPI says of a resource.

use std::{path::PathBuf, sync::Arc, time::Duration};

use api::{Code, ServiceError};
use axum::body::Bytes;
use daemon::{Secret, tls::Watched};
use reqwest::{
    Client, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    redirect::Policy,
};
use rustls::ClientConfig;

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
    http: Watched<Client>,
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
        Ok(Self::over(Watched::fixed(http(None)?), base, authorization))
    }

    /// The same by such a client.
    pub fn over(http: Watched<Client>, base: String, authorization: Authorization) -> Self {
        Self(Arc::new(Inner {
            http,
            base,
            authorization,
        }))
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
            .current()
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

/// A client that asks HAPI; `tls`: how, where that is not as everybody else is asked. Needs a default crypto provider of rustls.
pub fn http(tls: Option<ClientConfig>) -> Result<Client, ServiceError> {
    // What is sent holds secrets: it goes to HAPI itself and nowhere else.
    let builder = Client::builder()
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT);
    let builder = match tls {
        Some(config) => builder.tls_backend_preconfigured(config),
        None => builder,
    };
    builder.build().map_err(|error| ServiceError::internal(&error))
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

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        http::{HeaderMap, StatusCode as Status, header},
        response::{IntoResponse, Redirect},
        routing::get,
    };

    use super::*;

    /// A HAPI that answers with the `Authorization` header that it was shown, and sends whoever asks for `Patient/moved` elsewhere.
    async fn echo() -> String {
        let shown = |headers: HeaderMap| async move {
            let value = headers.get(header::AUTHORIZATION).cloned();
            value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        let routes = Router::new()
            .route("/fhir/Patient/a", get(shown))
            .route("/fhir/Patient/gone", get(|| async { Status::GONE }))
            .route(
                "/fhir/Patient/moved",
                get(|| async { Redirect::temporary("/fhir/Patient/a").into_response() }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/fhir", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, routes).into_future());
        let _installed = rustls::crypto::ring::default_provider().install_default();
        base
    }

    #[tokio::test]
    async fn hapi_is_shown_what_it_asks_for_and_a_file_is_read_each_time() {
        let base = echo().await;
        let shown = async |authorization| {
            let hapi = Hapi::new(base.clone(), authorization).unwrap();
            hapi.read("Patient", "a", 1000).await.map(Option::unwrap)
        };
        assert_eq!(shown(Authorization::None).await.unwrap(), "");
        let fixed = Authorization::Fixed(Secret::new("Basic dTpw"));
        assert_eq!(shown(fixed).await.unwrap(), "Basic dTpw");
        let file = std::env::temp_dir().join(format!("hapi-authorization-{}", std::process::id()));
        for token in ["Bearer one", "Bearer two"] {
            std::fs::write(&file, format!("{token}\n")).unwrap();
            assert_eq!(shown(Authorization::File(file.clone())).await.unwrap(), token);
        }
        std::fs::remove_file(&file).unwrap();
        let error = shown(Authorization::File(file)).await.unwrap_err();
        assert!(error.message.contains("hapi.authorization_file"), "{error}");
    }

    #[tokio::test]
    async fn what_is_gone_is_none_and_nobody_else_is_shown_the_secret() {
        let hapi = Hapi::new(echo().await, Authorization::Fixed(Secret::new("Bearer s"))).unwrap();
        assert_eq!(hapi.read("Patient", "gone", 1000).await.unwrap(), None);
        let error = hapi.read("Patient", "moved", 1000).await.unwrap_err();
        assert_eq!(error.code, Code::Unavailable, "a redirect is not followed");
        let error = hapi.read("Patient", "a", 3).await.unwrap_err();
        assert!(error.message.contains("more than 3 bytes"), "{error}");
    }
}
