//! The three services, all running, over HAPI's tables with a little in them.

use e2e::{
    ask::channel,
    house::{House, versions_of},
    process::Daemon,
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
        let this = Self {
            house,
            speed,
            serving,
        };
        let speed = this.channel("SpeedService").await?;
        this.house.hold_patient(speed, None).await?;
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
