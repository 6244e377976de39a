//! The three services, all running, over HAPI's tables with a little in them.

use std::time::Duration;

use api::proto::speed::{ScanRecentResourcesRequest, speed_service_client::SpeedServiceClient};
use e2e::{
    ask::channel,
    deadline,
    house::{House, versions_of},
    process::Daemon,
    tables::{self, Version},
};
use serde_json::Value;
use tonic::transport::Channel;

/// All three, and what they stand on.
pub(crate) struct Whole {
    pub(crate) house: House,
    pub(crate) speed: Daemon,
    pub(crate) serving: Daemon,
}

/// The views.
pub(crate) fn views() -> [Value; 2] {
    [
        versions_of("Patient", &[("gender", "gender"), ("active", "active")]),
        versions_of("Condition", &[("patient_id", "subject.getReferenceKey(Patient)")]),
    ]
}

impl Whole {
    /// With two views, and a patient that came after they were materialised: the speed layer holds it.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let house = House::start(&views(), "").await?;
        let speed = house.speed("").await?;
        let serving = house.serving(&speed).await?;
        let mut connection = house.hapi.acquire().await?;
        let updated = tables::now(&mut connection).await?;
        let version = Version {
            resource_type: "Patient",
            id: "a",
            version: 1,
            updated,
            stored: Some(r#"{"resourceType":"Patient","gender":"female"}"#),
        };
        tables::write(&mut connection, None, &version).await?;
        drop(connection);
        let this = Self {
            house,
            speed,
            serving,
        };
        let client = SpeedServiceClient::new(this.channel("SpeedService").await?);
        deadline::until(
            "the speed layer holds the patient",
            Duration::from_secs(30),
            || async {
                let request = ScanRecentResourcesRequest {
                    resource_type: "Patient".into(),
                    ..Default::default()
                };
                let mut found = client
                    .clone()
                    .scan_recent_resources(request)
                    .await
                    .ok()?
                    .into_inner();
                let first = found.message().await.ok()??;
                matches!(
                    first.part,
                    Some(api::proto::speed::scan_recent_resources_response::Part::State(_))
                )
                .then_some(())
            },
        )
        .await?;
        Ok(this)
    }

    /// To the daemon that serves a service, or a path of it.
    pub(crate) async fn channel(&self, path: &str) -> anyhow::Result<Channel> {
        let daemon = match path {
            path if path.contains("BatchService") => &self.house.batch,
            path if path.contains("SpeedService") => &self.speed,
            path if path.contains("ServingService") => &self.serving,
            other => anyhow::bail!("no daemon serves {other}: start it here"),
        };
        channel(&daemon.address("grpc")?).await
    }

    /// What the daemons have logged.
    pub(crate) fn logs(&self) -> [(&'static str, String); 3] {
        [
            ("batch-refresher", self.house.batch.log()),
            ("speed-ingestor", self.speed.log()),
            ("serving-gateway", self.serving.log()),
        ]
    }
}
