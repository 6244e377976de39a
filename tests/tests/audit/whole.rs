//! The three services, each with an audit of its own, over HAPI's tables with some patients.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use e2e::{
    ask::channel,
    house::{House, asker, versions_of, view_of},
    process::Daemon,
    server::{Lifetime, new_folder},
    tables::{self, Version},
};
use tonic::transport::Channel;

use crate::file::key_file;

/// Patients that are there.
pub(crate) const PATIENTS: usize = 100;

/// All three, and what they stand on.
pub(crate) struct Whole {
    pub(crate) house: House,
    pub(crate) speed: Daemon,
    pub(crate) serving: Daemon,
    pub(crate) folder: PathBuf,
    pub(crate) keys: PathBuf,
}

impl Whole {
    /// With two views, a hundred patients that the speed layer has shown, and audits with these further settings.
    pub(crate) async fn start(further: &[(&str, &str)]) -> anyhow::Result<Self> {
        let views = [
            versions_of("Patient", &[("gender", "gender"), ("active", "active")]),
            versions_of("Condition", &[("patient_id", "subject.getReferenceKey(Patient)")]),
        ];
        let house = House::start(&views, "").await?;
        let speed = house.speed("").await?;
        let serving = house.serving(&speed).await?;
        let folder = new_folder("audit", None, Lifetime::Program)?;
        let keys = key_file(&folder)?;
        let mut this = Self {
            house,
            speed,
            serving,
            folder,
            keys,
        };
        let key_file = this.keys.display().to_string();
        for (daemon, name, prefix) in [
            (&mut this.house.batch, "batch", "RF_BATCH"),
            (&mut this.speed, "speed", "RF_SPEED"),
            (&mut this.serving, "serving", "RF_SERVING"),
        ] {
            let file = file_of(&this.folder, name).display().to_string();
            let variable = |key: &str| format!("{prefix}__AUDIT__{key}");
            let mut variables = vec![(variable("FILE"), file), (variable("KEY_FILE"), key_file.clone())];
            variables.extend(
                further
                    .iter()
                    .map(|(key, value)| (variable(key), (*value).to_owned())),
            );
            let variables: Vec<(&str, &str)> = variables
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            daemon.restart_with(&variables).await?;
        }
        this.put_patients().await?;
        Ok(this)
    }

    async fn put_patients(&self) -> anyhow::Result<()> {
        let mut connection = self.house.hapi.acquire().await?;
        let updated = tables::now(&mut connection).await?;
        for number in 0..PATIENTS {
            let id = format!("p{number}");
            let gender = if number == 0 { "female" } else { "male" };
            let stored = format!(r#"{{"resourceType":"Patient","gender":"{gender}","active":true}}"#);
            let version = Version {
                resource_type: "Patient",
                id: &id,
                version: 1,
                updated,
                stored: Some(&stored),
            };
            tables::write(&mut connection, None, &version).await?;
        }
        let all = e2e::ask::count_of(&view_of("Patient"));
        let wanted = i64::try_from(PATIENTS)?;
        asker(&self.serving)
            .await?
            .until(&all, Duration::from_secs(30), |answer| {
                answer.footer.row_count == wanted
            })
            .await?;
        Ok(())
    }

    /// The file of `batch`, `speed` or `serving`.
    pub(crate) fn file(&self, of: &str) -> PathBuf {
        file_of(&self.folder, of)
    }

    /// The daemon that serves a path, and the name of its file.
    pub(crate) fn daemon(&self, path: &str) -> (&Daemon, &'static str) {
        match path {
            path if path.contains("BatchService") => (&self.house.batch, "batch"),
            path if path.contains("SpeedService") => (&self.speed, "speed"),
            _ => (&self.serving, "serving"),
        }
    }

    /// To the daemon that serves a path.
    pub(crate) async fn channel(&self, path: &str) -> anyhow::Result<Channel> {
        channel(&self.daemon(path).0.address("grpc")?).await
    }
}

fn file_of(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.ndjson"))
}
