//! gRPC by hand: any bytes to any path, and all that comes back; what no generated client would send.

use std::{future::poll_fn, time::Duration};

use anyhow::Context as _;
use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use http_body_util::BodyExt as _;
use tonic::{Code, Status, client::GrpcService as _, transport::Channel};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What came back.
#[derive(Debug)]
pub struct Said {
    /// Of HTTP.
    pub http: StatusCode,
    /// The metadata before the messages.
    pub head: HeaderMap,
    /// Whether at least one message came.
    pub answered: bool,
    /// Of gRPC; `None`: none came, as the answer was left at its first message, or is not one of gRPC.
    pub status: Option<Status>,
}

impl Said {
    /// The status of gRPC; an answer that was left is good.
    pub fn code(&self) -> Code {
        self.status.as_ref().map_or(Code::Ok, Status::code)
    }

    /// The message of the status.
    pub fn message(&self) -> &str {
        self.status.as_ref().map_or("", Status::message)
    }

    /// The details of the status.
    pub fn details(&self) -> ErrorDetails {
        self.status
            .as_ref()
            .map(Status::get_error_details)
            .unwrap_or_default()
    }

    /// The field that is said to break a rule.
    pub fn field(&self) -> Option<String> {
        let details = self.details();
        let violation = details.bad_request()?.field_violations.first()?;
        Some(violation.field.clone())
    }
}

/// A message as it is sent.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0];
    frame.extend(length.to_be_bytes());
    frame.extend(message);
    frame
}

/// How a call is made.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// `/package.Service/Method`
    pub path: &'a str,
    /// Headers beside, or in place of, the usual content-type.
    pub headers: &'a [(&'static str, &'a str)],
    /// How long it may take.
    pub limit: Duration,
    /// Leaves the answer at its first message, which need not have an end.
    pub first_only: bool,
}

impl<'a> Call<'a> {
    /// One without further headers, that may take half a minute.
    pub fn to(path: &'a str) -> Self {
        Self {
            path,
            headers: &[],
            limit: Duration::from_secs(30),
            first_only: false,
        }
    }

    /// Sends these bytes, and reads the answer to its end.
    pub async fn send(&self, channel: &Channel, bytes: Vec<u8>) -> anyhow::Result<Said> {
        self.send_body(channel, Body::from(bytes)).await
    }

    /// The same of a body.
    pub async fn send_body(&self, channel: &Channel, body: Body) -> anyhow::Result<Said> {
        tokio::time::timeout(self.limit, self.unbounded(channel.clone(), body))
            .await
            .with_context(|| format!("{} has not answered within {:?}", self.path, self.limit))?
    }

    async fn unbounded(&self, mut channel: Channel, body: Body) -> anyhow::Result<Said> {
        let mut request = Request::post(self.path).body(tonic::body::Body::new(body))?;
        let headers = request.headers_mut();
        headers.insert("content-type", "application/grpc".parse()?);
        headers.insert("te", "trailers".parse()?);
        for (name, value) in self.headers {
            headers.insert(*name, value.parse()?);
        }
        poll_fn(|context| channel.poll_ready(context)).await?;
        let response = channel.call(request).await?;
        let (head, mut body) = response.into_parts();
        let mut status = Status::from_header_map(&head.headers);
        let mut answered = false;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|status| anyhow::anyhow!("the answer was broken off: {status}"))?;
            answered |= frame.is_data();
            if answered && self.first_only {
                break;
            }
            if let Some(trailers) = frame.trailers_ref() {
                status = Status::from_header_map(trailers);
            }
        }
        Ok(Said {
            http: head.status,
            head: head.headers,
            answered,
            status,
        })
    }
}
