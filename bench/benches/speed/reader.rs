//! A reader of Changes, as the merger is one: takes previews as they come, and times each from its receipt by the webhook.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::ensure;
use api::{
    MAX_MESSAGE_BYTES,
    proto::speed as proto,
    speed::{Changes, speed_service_client::SpeedServiceClient},
    time,
};
use chrono::TimeDelta;
use daemon::{Clock as _, SystemClock};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

pub(crate) struct Reader {
    /// Microseconds.
    times: Arc<Mutex<Vec<i64>>>,
    reading: tokio::task::JoinHandle<()>,
}

pub(crate) struct Times(Vec<i64>);

impl Reader {
    pub(crate) async fn start(grpc: &str) -> anyhow::Result<Self> {
        let mut client = SpeedServiceClient::connect(format!("http://{grpc}"))
            .await?
            .max_decoding_message_size(MAX_MESSAGE_BYTES);
        let times: Arc<Mutex<Vec<i64>>> = Arc::default();
        let kept = times.clone();
        let reading = tokio::spawn(async move {
            let result = read(&mut client, &kept).await;
            println!("the reader of Changes has ended: {result:?}");
        });
        Ok(Self { times, reading })
    }

    /// Forgets what was timed.
    pub(crate) fn forget(&self) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn times(self) -> anyhow::Result<Times> {
        ensure!(!self.reading.is_finished(), "the reader has ended");
        self.reading.abort();
        let mut times = std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner));
        times.sort_unstable();
        ensure!(!times.is_empty(), "the reader got nothing");
        Ok(Times(times))
    }
}

impl Times {
    /// In milliseconds.
    pub(crate) fn percentile(&self, hundredths: usize) -> f64 {
        let index = self.0.len() * hundredths / 100;
        self.0[index.min(self.0.len() - 1)] as f64 / 1e3
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }
}

async fn read(client: &mut SpeedServiceClient<Channel>, times: &Mutex<Vec<i64>>) -> anyhow::Result<()> {
    let (requests, asked) = mpsc::channel(1);
    let mut parts = client.changes(ReceiverStream::new(asked)).await?.into_inner();
    let request = Changes {
        cursors: vec![("Patient".to_owned(), i64::MAX / 2)],
        wait: TimeDelta::seconds(10),
    };
    loop {
        requests.send(proto::ChangesRequest::from(&request)).await?;
        loop {
            let message = parts.message().await?;
            let now = SystemClock.now();
            match message.and_then(|message| message.part) {
                Some(proto::changes_response::Part::Previews(previews)) => {
                    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                    for preview in &previews.previews {
                        let received = time::required_datetime("received", preview.received.as_ref())?;
                        times.push((now - received).num_microseconds().unwrap_or(i64::MAX));
                    }
                }
                Some(proto::changes_response::Part::End(_)) => break,
                Some(_) => {}
                None => anyhow::bail!("the stream has ended"),
            }
        }
    }
}
