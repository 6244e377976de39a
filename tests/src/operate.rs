//! Operating the batch layer as an operator does: refreshes, views.

use std::time::Duration;

use api::proto::batch::{
    DropViewRequest, ListViewsRequest, PutViewRequest, RefreshKind, RefreshPhase, RefreshRequest,
    RefreshResponse, View, ViewState, batch_service_client::BatchServiceClient,
};
use tonic::transport::Channel;

use crate::ask::channel;
use crate::deadline;

/// A client of BatchService.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The generated client, for everything else.
    pub client: BatchServiceClient<Channel>,
}

impl Operator {
    /// A client of the service at `host:port`.
    pub async fn connect(address: &str) -> anyhow::Result<Self> {
        let client = BatchServiceClient::new(channel(address).await?)
            .max_decoding_message_size(api::MAX_MESSAGE_BYTES);
        Ok(Self { client })
    }

    /// Refreshes types (none: all) and waits for the end; the last message of each type, which is that it is done.
    pub async fn refresh(&self, types: &[&str], kind: RefreshKind) -> anyhow::Result<Vec<RefreshResponse>> {
        let request = RefreshRequest {
            resource_types: types.iter().map(|name| (*name).to_owned()).collect(),
            kind: kind.into(),
        };
        let mut progress = self.client.clone().refresh(request).await?.into_inner();
        let mut done = Vec::new();
        while let Some(message) = progress.message().await? {
            match message.phase() {
                RefreshPhase::Failed => {
                    anyhow::bail!(
                        "the refresh of {} failed: {}",
                        message.resource_type,
                        message.reason
                    )
                }
                RefreshPhase::Done => done.push(message),
                _ => {}
            }
        }
        anyhow::ensure!(!done.is_empty(), "the refresh ended without a result");
        Ok(done)
    }

    /// The registered views.
    pub async fn views(&self) -> anyhow::Result<Vec<View>> {
        Ok(self
            .client
            .clone()
            .list_views(ListViewsRequest {})
            .await?
            .into_inner()
            .views)
    }

    /// Waits until every registered view is materialised.
    pub async fn all_active(&self, limit: Duration) -> anyhow::Result<Vec<View>> {
        deadline::until("all views to be active", limit, || async {
            let views = self.views().await.ok()?;
            let active = !views.is_empty() && views.iter().all(|view| view.state() == ViewState::Active);
            active.then_some(views)
        })
        .await
    }

    /// Registers a view.
    pub async fn put_view(&self, definition: &serde_json::Value) -> Result<View, tonic::Status> {
        let request = PutViewRequest {
            definition_json: definition.to_string(),
            force: false,
        };
        Ok(self
            .client
            .clone()
            .put_view(request)
            .await?
            .into_inner()
            .view
            .unwrap_or_default())
    }

    /// Drops a view.
    pub async fn drop_view(&self, name: &str) -> Result<(), tonic::Status> {
        self.client
            .clone()
            .drop_view(DropViewRequest {
                name: name.to_owned(),
            })
            .await?;
        Ok(())
    }
}
