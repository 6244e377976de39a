//! The daemon's own start over a played database, and its client.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use api::proto::batch::{self as proto, batch_service_client::BatchServiceClient};
use batch_refresher::{
    config::{self, Settings},
    start::start,
};
use daemon::{
    Context, Shutdown, SystemClock,
    admin::Readiness,
    announce::Announcement,
    grpc::{GrpcManners, GrpcServer},
    metrics::Metrics,
    tls::{Acceptor, Tls},
};
use e2e::deadline;
use tokio::net::TcpListener;
use tonic::transport::Channel;

use crate::played::Played;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) type Client = BatchServiceClient<Channel>;

pub(crate) struct Served {
    pub(crate) client: Client,
    pub(crate) shutdown: Shutdown,
    pub(crate) metrics: Metrics,
}

/// The daemon's own start, over the played database.
pub(crate) async fn serve(played: &Played, views: &std::path::Path) -> anyhow::Result<Served> {
    let file = views.join("config.toml");
    let text = format!(
        "[hapi]\nurl = \"{}\"\n[views]\nurl = \"{}\"\nfolder = \"{}\"\n[refresh]\ninterval_seconds = 0\n[reconcile]\ncron = \"\"\n[readings]\nmax_changes = 3\n",
        played.settings().url,
        played.views_url,
        views.display()
    );
    std::fs::write(&file, text)?;
    let config = daemon::config::load::<Settings>(config::DEFAULTS, Some(&file), "RF_BATCH_TEST")?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (shutdown, metrics, readiness) = (Shutdown::new(), Metrics::new(), Readiness::default());
    start(Context {
        config,
        shutdown: shutdown.clone(),
        metrics: metrics.clone(),
        readiness: readiness.clone(),
        clock: Arc::new(SystemClock),
        grpc: GrpcServer {
            listener,
            tls: Acceptor::plain(),
            reflection: true,
            readiness: readiness.clone(),
            manners: GrpcManners::default(),
            around: Vec::new(),
        },
        tls: Tls::new(LIMIT, &metrics, &shutdown),
        announcement: Announcement::new(None),
    })
    .await?;
    assert!(readiness.missing().is_empty());
    let client = BatchServiceClient::connect(format!("http://{address}")).await?;
    Ok(Served {
        client,
        shutdown,
        metrics,
    })
}

/// Waits until a view is active.
pub(crate) async fn active(client: &Client, name: &str) -> anyhow::Result<proto::View> {
    deadline::until("the view to be active", LIMIT, || async {
        let views = client
            .clone()
            .list_views(proto::ListViewsRequest {})
            .await
            .ok()?
            .into_inner()
            .views;
        views
            .into_iter()
            .find(|v| v.name == name && v.state() == proto::ViewState::Active)
    })
    .await
}

/// Runs a refresh of the patients to its last word.
pub(crate) async fn refresh(
    client: &mut Client,
    kind: proto::RefreshKind,
) -> anyhow::Result<proto::RefreshResponse> {
    let request = proto::RefreshRequest {
        resource_types: vec!["Patient".into()],
        kind: kind.into(),
    };
    let mut stream = client.refresh(request).await?.into_inner();
    let mut last = None;
    while let Some(message) = stream.message().await? {
        last = Some(message);
    }
    last.context("progress")
}
