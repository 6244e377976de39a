//! Redis under load, as whoever looks at it sees it: what it holds, and that nothing of that goes back or away.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context as _, ensure};
use redis::{InfoDict, aio::MultiplexedConnection};
use tokio::task::JoinHandle;

use crate::load::{PAUSE, ids};

/// n and version by id.
type Readings = BTreeMap<String, (i64, i64)>;

/// What Redis holds of the writers' patients: n and version of each reading.
pub(crate) async fn held(connection: &mut MultiplexedConnection) -> anyhow::Result<Readings> {
    Ok(look(connection).await?.0)
}

/// The same, and whether all of it is in the append-only file.
///
/// With `appendfsync everysec` Redis answers while it holds back what it has yet to write, for as long as it waits for the disk to be done with the second
/// before. A kill loses that, by Redis' contract: the tail reads it again, from the mark that lies before it in the same file.
async fn look(connection: &mut MultiplexedConnection) -> anyhow::Result<(Readings, bool)> {
    let ids = ids();
    let mut pipe = redis::pipe();
    pipe.atomic();
    for id in &ids {
        pipe.hmget(format!("fhir:Patient:{id}"), &["n", "version"]);
    }
    pipe.cmd("INFO").arg("persistence");
    let mut found: Vec<redis::Value> = pipe.query_async(connection).await?;
    let info: InfoDict = redis::from_redis_value(found.pop().context("the last answer")?)?;
    let mut readings = Readings::new();
    for (id, fields) in ids.into_iter().zip(found) {
        if let (Some(n), Some(version)) = redis::from_redis_value(fields)? {
            readings.insert(id, (n, version));
        }
    }
    Ok((readings, info.get::<u64>("aof_buffer_length") == Some(0)))
}

/// Looks at Redis all the time, also while it comes and goes.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    looking: JoinHandle<anyhow::Result<u64>>,
}

impl Watch {
    pub(crate) fn begin(url: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let looking = tokio::spawn(watch(url, stop.clone()));
        Self { stop, looking }
    }

    /// How often it has looked; fails if a reading has gone back, or away.
    pub(crate) async fn end(self) -> anyhow::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.await?
    }
}

async fn watch(url: String, stop: Arc<AtomicBool>) -> anyhow::Result<u64> {
    let (client, mut connection) = (redis::Client::open(url)?, None);
    let (mut seen, mut looks) = (Readings::new(), 0);
    while !stop.load(Ordering::Relaxed) {
        if connection.is_none() {
            connection = client.get_multiplexed_async_connection().await.ok();
        }
        let now = match &mut connection {
            Some(connection) => look(connection).await.ok(),
            None => None,
        };
        if let Some((now, written)) = now {
            for (id, before) in &seen {
                let now = now.get(id);
                // Nothing is expunged here, so versions go forward as numbers do.
                ensure!(
                    now.is_some_and(|(n, version)| (*n, *version) >= *before && *version >= before.1),
                    "Redis held {id} as (n, version) {before:?}, then {now:?}"
                );
            }
            if written {
                (seen, looks) = (now, looks + 1);
            }
        } else {
            connection = None;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(looks)
}
