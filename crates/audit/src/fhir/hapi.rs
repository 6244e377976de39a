//! HAPI's REST, for the one thing that is asked of it: to take a Bundle. No error shows the address, which may hold a password, or what HAPI says.

use std::{sync::Arc, time::Duration};

use axum::http::HeaderValue;
use reqwest::{
    Client, StatusCode,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
    redirect::Policy,
};

use super::{Authorization, Settings};

const FHIR_JSON: &str = "application/fhir+json";
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why HAPI has not taken what was sent.
#[derive(Debug, thiserror::Error)]
pub enum HapiError {
    /// There is no way to ask it.
    #[error("a client of HTTP cannot be made")]
    Client,
    /// It cannot be asked now.
    #[error("{0}")]
    Away(&'static str),
    /// What is to be shown to it cannot be read.
    #[error("authorization_file: {0}")]
    Authorization(&'static str),
    /// It may take it at another time.
    #[error("it answers {0}")]
    Later(StatusCode),
    /// It will never take it.
    #[error("it refuses what was sent: {0}")]
    Refused(StatusCode),
}

#[derive(Clone)]
pub(crate) struct Hapi {
    http: Client,
    base: Arc<str>,
    authorization: Authorization,
}

impl Hapi {
    pub(crate) fn new(settings: &Settings) -> Result<Self, HapiError> {
        let http = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(|_| HapiError::Client)?;
        Ok(Self {
            http,
            base: settings.base.as_str().into(),
            authorization: settings.authorization.clone(),
        })
    }

    pub(crate) async fn take(&self, bundle: String) -> Result<(), HapiError> {
        let mut request = self
            .http
            .post(&*self.base)
            .header(ACCEPT, FHIR_JSON)
            .header(CONTENT_TYPE, FHIR_JSON)
            .header("prefer", "return=minimal")
            .body(bundle);
        if let Some(authorization) = self.authorization().await? {
            request = request.header(AUTHORIZATION, authorization);
        }
        let response = request.send().await.map_err(|error| {
            HapiError::Away(match () {
                () if error.is_timeout() => "it does not answer in time",
                () if error.is_connect() => "it cannot be reached",
                () => "the request failed",
            })
        })?;
        let status = response.status();
        // So that the connection serves the next one.
        let _said = response.bytes().await;
        match status.as_u16() {
            200..300 => Ok(()),
            // Of the records in it. What says that there is nothing to send to (404, 405) waits: a HAPI that is being deployed, a wrong URL.
            400 | 413 | 422 => Err(HapiError::Refused(status)),
            _ => Err(HapiError::Later(status)),
        }
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, HapiError> {
        let read;
        let text = match &self.authorization {
            Authorization::None => return Ok(None),
            Authorization::Fixed(secret) => secret.expose(),
            Authorization::File(file) => {
                let text = tokio::fs::read_to_string(file).await;
                read = text.map_err(|_| HapiError::Authorization("cannot be read"))?;
                read.trim()
            }
        };
        let mut value =
            HeaderValue::from_str(text).map_err(|_| HapiError::Authorization("cannot stand in a header"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}
