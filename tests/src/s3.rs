//! A private server of S3's API: moto's, which keeps everything in memory. Own port at 127.0.0.1; ends with this program, or when dropped.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use daemon::Secret;
use object_store::{
    ObjectStoreExt as _,
    aws::{AmazonS3, AmazonS3Builder},
    signer::Signer as _,
};
use speed_ingestor::backup::{S3Settings, TargetSettings};

use crate::server::{self, Launch, Server};

const START_LIMIT: Duration = Duration::from_mins(1);

/// A running server.
#[derive(Debug)]
pub struct S3 {
    server: Server,
    port: u16,
    client: reqwest::Client,
}

impl S3 {
    /// Starts a server without buckets.
    pub async fn start() -> anyhow::Result<Self> {
        // Another part of this program may have been first.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let program = program()?;
        let log = server::new_folder("s3", None, server::Lifetime::Program)?.join("log");
        let start = |port: u16| {
            let launch = Launch::new("moto_server", &program, log.clone())
                .args(["-H", "127.0.0.1", "-p"])
                .arg(port.to_string());
            async move {
                let mut started = Self {
                    server: launch.spawn()?,
                    port,
                    client: reqwest::Client::builder()
                        .timeout(Duration::from_secs(30))
                        .build()?,
                };
                let (client, url) = (started.client.clone(), started.endpoint());
                started
                    .server
                    .ready(START_LIMIT, || async { client.get(&url).send().await.ok() })
                    .await?;
                anyhow::Ok(started)
            }
        };
        server::start_on_free_port(&log, "Address already in use", start).await
    }

    /// Where it is.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket.
    pub async fn make_bucket(&self, bucket: &str) -> anyhow::Result<()> {
        let made = self
            .client
            .put(format!("{}/{bucket}", self.endpoint()))
            .send()
            .await?;
        made.error_for_status()?;
        Ok(())
    }

    /// How backups reach it.
    pub fn target(&self, url: &str) -> TargetSettings {
        TargetSettings {
            url: url.to_owned(),
            s3: S3Settings {
                endpoint: self.endpoint(),
                region: "us-east-1".into(),
                access_key_id: Secret::new("test"),
                secret_access_key: Secret::new("test-secret"),
                session_token: Secret::new(""),
                allow_http: true,
                kms_key_id: String::new(),
            },
        }
    }

    /// Keys of all objects in a bucket, sorted (a thousand at most).
    pub async fn keys(&self, bucket: &str) -> anyhow::Result<Vec<String>> {
        self.list(bucket, "list-type=2").await
    }

    /// Keys of uploads in parts that were begun and neither finished nor given up.
    pub async fn uploads(&self, bucket: &str) -> anyhow::Result<Vec<String>> {
        self.list(bucket, "uploads").await
    }

    /// The answer to a signed GET of an object.
    pub async fn get(&self, bucket: &str, key: &str) -> anyhow::Result<reqwest::Response> {
        let (objects, path) = (self.objects(bucket)?, key.into());
        let url = objects
            .signed_url(reqwest::Method::GET, &path, START_LIMIT)
            .await?;
        Ok(self.client.get(url).send().await?.error_for_status()?)
    }

    /// Replaces an object.
    pub async fn put(&self, bucket: &str, key: &str, body: Vec<u8>) -> anyhow::Result<()> {
        self.objects(bucket)?.put(&key.into(), body.into()).await?;
        Ok(())
    }

    async fn list(&self, bucket: &str, query: &str) -> anyhow::Result<Vec<String>> {
        let url = format!("{}/{bucket}?{query}", self.endpoint());
        let listed = self.client.get(url).send().await?.error_for_status()?;
        Ok(elements(&listed.text().await?, "Key"))
    }

    fn objects(&self, bucket: &str) -> anyhow::Result<AmazonS3> {
        Ok(AmazonS3Builder::new()
            .with_bucket_name(bucket)
            .with_endpoint(self.endpoint())
            .with_region("us-east-1")
            .with_access_key_id("test")
            .with_secret_access_key("test-secret")
            .with_allow_http(true)
            .build()?)
    }

    /// Kills the server as a crash does; it forgets everything.
    pub fn kill9(&mut self) {
        self.server.kill9();
    }
}

/// As `scripts/setup.sh run` installs it, else as it is in PATH.
fn program() -> anyhow::Result<PathBuf> {
    let own = server::target_folder()?.join("tools/python/bin/moto_server");
    if own.is_file() {
        return Ok(own);
    }
    server::find_program("moto_server", &[], "")
        .ok()
        .context("moto_server is not installed; install it with: scripts/setup.sh run")
}

fn elements(xml: &str, name: &str) -> Vec<String> {
    let (begin, end) = (format!("<{name}>"), format!("</{name}>"));
    let mut found: Vec<String> = xml
        .split(&begin)
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(&end)?.0.to_owned()))
        .collect();
    found.sort();
    found
}
