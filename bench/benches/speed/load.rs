//! The load: connections that each send a webhook, wait for its answer, and send the next; over plain sockets, so that it takes little of the cores that it
//! shares with what is measured.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Patients that the load writes; each delivery is a new version of one.
const PATIENTS: u64 = 100_000;

/// What the process is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// `host:port` of the webhook.
    address: String,
    /// The header's value.
    authorization: String,
    connections: usize,
    bytes: usize,
    milliseconds: u64,
    /// Webhooks a second; as many as are answered without it.
    rate: Option<u64>,
}

/// What the process tells.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Loaded {
    /// Answered with 200; any other answer ends the load.
    pub(crate) accepted: u64,
    pub(crate) seconds: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Of the load itself.
    pub(crate) cpu_seconds: f64,
    #[serde(default)]
    pub(crate) ingestor_cpu_seconds: f64,
    #[serde(default)]
    pub(crate) redis_cpu_seconds: f64,
}

impl Loaded {
    pub(crate) fn per_second(&self) -> f64 {
        self.accepted as f64 / self.seconds
    }
}

pub(crate) async fn obey(order: &Order) -> anyhow::Result<()> {
    let start = Instant::now();
    let end = start + Duration::from_millis(order.milliseconds);
    let seed = std::time::UNIX_EPOCH.elapsed()?.as_secs() * 1000;
    let tasks: Vec<_> = (0..order.connections)
        .map(|number| {
            let connection = Connection::new(order, number as u64, seed);
            let pace = order.rate.map(|rate| {
                Duration::from_secs(order.connections as u64) / u32::try_from(rate).unwrap_or(u32::MAX)
            });
            tokio::spawn(connection.send_until(order.address.clone(), end, pace))
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await??);
    }
    let seconds = start.elapsed().as_secs_f64();
    times.sort_unstable();
    let percentile = |hundredths: usize| {
        let index = times.len() * hundredths / 100;
        times
            .get(index.min(times.len().saturating_sub(1)))
            .map_or(0.0, |micros| f64::from(*micros) / 1e3)
    };
    let loaded = Loaded {
        accepted: times.len() as u64,
        seconds,
        p50_ms: percentile(50),
        p99_ms: percentile(99),
        cpu_seconds: crate::servers::cpu_seconds(std::process::id())?,
        ..Loaded::default()
    };
    println!("{}", serde_json::to_string(&loaded)?);
    Ok(())
}

/// One connection with its request, in which only id and version change.
struct Connection {
    request: Vec<u8>,
    /// Where the id stands (in the path and in the body), and the version.
    ids: [usize; 2],
    version: usize,
    number: u64,
    step: u64,
    seed: u64,
}

const ID_DIGITS: usize = 8;
const VERSION_DIGITS: usize = 15;

impl Connection {
    fn new(order: &Order, number: u64, seed: u64) -> Self {
        let (id, version) = ("0".repeat(ID_DIGITS), "1".repeat(VERSION_DIGITS));
        let head = format!(
            r#"{{"resourceType":"Patient","id":"p{id}","meta":{{"versionId":"{version}","lastUpdated":"2026-01-31T10:09:44.706+00:00"}},"active":true,"gender":"female","birthDate":"1970-01-01","text":{{"status":"generated","div":""#
        );
        let tail = r#""}}"#;
        let filling = "x".repeat(order.bytes.saturating_sub(head.len() + tail.len()));
        let body = format!("{head}{filling}{tail}");
        let request = format!(
            "PUT /fhir/Patient/p{id} HTTP/1.1\r\nHost: {}\r\nAuthorization: {}\r\nContent-Type: application/fhir+json;charset=utf-8\r\nAccept: application/fhir+json\r\nContent-Length: {}\r\n\r\n{body}",
            order.address,
            order.authorization,
            body.len()
        );
        let ids: Vec<usize> = request.match_indices(&id).map(|(at, _)| at).collect();
        let version = request.find(&version).unwrap_or_default();
        Self {
            ids: [ids[0], ids[1]],
            version,
            request: request.into_bytes(),
            number,
            step: order.connections as u64,
            seed,
        }
    }

    fn next(&mut self, sent: u64) {
        let id = format!("{:0ID_DIGITS$}", (self.number + sent * self.step) % PATIENTS);
        for at in self.ids {
            self.request[at..at + ID_DIGITS].copy_from_slice(id.as_bytes());
        }
        let version = format!("{:0VERSION_DIGITS$}", (self.seed + sent) * 10 + 1);
        self.request[self.version..self.version + VERSION_DIGITS].copy_from_slice(version.as_bytes());
    }

    async fn send_until(
        mut self,
        address: String,
        end: Instant,
        pace: Option<Duration>,
    ) -> anyhow::Result<Vec<u32>> {
        let mut stream = TcpStream::connect(&address).await?;
        stream.set_nodelay(true)?;
        let (mut times, mut answer) = (Vec::with_capacity(1 << 16), [0; 1024]);
        let start = Instant::now();
        for sent in 0.. {
            if let Some(pace) = pace {
                tokio::time::sleep_until((start + pace * u32::try_from(sent).unwrap_or(u32::MAX)).into())
                    .await;
            }
            let now = Instant::now();
            if now >= end {
                break;
            }
            self.next(sent);
            stream.write_all(&self.request).await?;
            let mut length = 0;
            while !answer[..length].windows(4).any(|four| four == b"\r\n\r\n") {
                ensure!(length < answer.len(), "an answer is longer than expected");
                let read = stream.read(&mut answer[length..]).await?;
                ensure!(read > 0, "the connection was closed");
                length += read;
            }
            let answered = &answer[..length];
            ensure!(
                answered.starts_with(b"HTTP/1.1 200"),
                "answered {}",
                String::from_utf8_lossy(&answered[..answered.len().min(12)])
            );
            times.push(u32::try_from(now.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
        Ok(times)
    }
}
