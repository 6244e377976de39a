//! A receiver in Slack's place.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{Router, extract::State, routing::post};
use serde_json::Value;

/// A message, as it is shown.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) title: String,
    pub(crate) text: String,
    pub(crate) color: String,
    pub(crate) channel: String,
    /// All of it.
    pub(crate) whole: String,
}

type Messages = Arc<Mutex<Vec<Message>>>;

/// What has come.
pub(crate) struct Slack {
    messages: Messages,
    pub(crate) url: String,
}

impl Slack {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let messages = Messages::default();
        let routes = Router::new().route("/", post(take)).with_state(messages.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        tokio::spawn(axum::serve(listener, routes).into_future());
        Ok(Self { messages, url })
    }

    /// All that came so far.
    pub(crate) fn messages(&self) -> Vec<Message> {
        self.messages
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

async fn take(State(messages): State<Messages>, body: String) -> &'static str {
    let message: Value = serde_json::from_str(&body).unwrap_or_default();
    let shown = &message["attachments"][0];
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    messages
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Message {
            title: text(&shown["title"]),
            text: text(&shown["text"]),
            color: text(&shown["color"]),
            channel: text(&message["channel"]),
            whole: body,
        });
    "ok"
}
