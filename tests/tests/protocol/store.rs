//! The speed store's keys, read whole after a step, and put back as a crash of Redis leaves them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;

use super::model::{Held, Holds, Left, Position, Waiting};
use super::views::timeline;

/// Fields of a reading.
type Fields = Vec<Option<i64>>;
/// Keys with their serialised values.
type Keys = Vec<(Vec<u8>, Vec<u8>)>;

pub(crate) struct Keyspace {
    connection: MultiplexedConnection,
    synced: Keys,
    backup: Keys,
}

/// The part of [`Holds`] that lies in Redis.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) mark: Option<Position>,
    pub(crate) readings: BTreeMap<String, Held>,
    pub(crate) previews: Vec<Waiting>,
}

impl Seen {
    /// The same part of what the model holds.
    pub(crate) fn expected(holds: &Holds) -> Self {
        let Holds {
            mark,
            readings,
            previews,
            ..
        } = holds.clone();
        Self {
            mark,
            readings,
            previews,
        }
    }
}

impl Keyspace {
    pub(crate) async fn open(url: &str) -> anyhow::Result<Self> {
        let connection = redis::Client::open(url)?
            .get_multiplexed_async_connection()
            .await?;
        Ok(Self {
            connection,
            synced: Vec::new(),
            backup: Vec::new(),
        })
    }

    pub(crate) async fn reset(&mut self) -> anyhow::Result<()> {
        redis::cmd("FLUSHALL")
            .query_async::<()>(&mut self.connection)
            .await?;
        (self.synced, self.backup) = (Vec::new(), Vec::new());
        Ok(())
    }

    pub(crate) async fn fsync(&mut self) -> anyhow::Result<()> {
        self.synced = self.copy().await?;
        Ok(())
    }

    pub(crate) async fn save(&mut self) -> anyhow::Result<()> {
        self.backup = self.copy().await?;
        Ok(())
    }

    /// Redis crashes and comes back in another life with what it had then.
    pub(crate) async fn crash(&mut self, to: Left) -> anyhow::Result<()> {
        let keys = match to {
            Left::Synced => self.synced.clone(),
            Left::Nothing => Vec::new(),
            Left::Backup => self.backup.clone(),
        };
        let mut pipe = redis::pipe();
        pipe.cmd("FLUSHALL").ignore();
        for (key, value) in &keys {
            pipe.cmd("RESTORE").arg(key).arg(0).arg(value).ignore();
        }
        pipe.query_async::<()>(&mut self.connection).await?;
        self.synced = keys;
        Ok(())
    }

    /// All but the token of the store's life, which no other life has.
    async fn copy(&mut self) -> anyhow::Result<Keys> {
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut self.connection)
            .await?;
        let keys: Vec<_> = keys.into_iter().filter(|key| key != b"fhir:life").collect();
        let mut pipe = redis::pipe();
        for key in &keys {
            pipe.cmd("DUMP").arg(key);
        }
        let values: Vec<Option<Vec<u8>>> = if keys.is_empty() {
            Vec::new()
        } else {
            pipe.query_async(&mut self.connection).await?
        };
        Ok(keys
            .into_iter()
            .zip(values)
            .filter_map(|(key, value)| Some((key, value?)))
            .collect())
    }

    pub(crate) async fn look(&mut self) -> anyhow::Result<Seen> {
        let ids = ["a", "b", "c"];
        let mut pipe = redis::pipe();
        for id in ids {
            pipe.cmd("HMGET").arg(format!("fhir:Patient:{id}")).arg(&[
                "version",
                "last_updated",
                "deleted",
                "n",
                "as_of",
            ]);
        }
        pipe.cmd("LRANGE").arg("fhir:previews:Patient").arg(0).arg(-1);
        pipe.cmd("HGET").arg("fhir:mark").arg("Patient");
        let (a, b, c, queue, mark): (Fields, Fields, Fields, Vec<Vec<u8>>, Option<String>) =
            pipe.query_async(&mut self.connection).await?;
        let mut readings = BTreeMap::new();
        for (id, fields) in ids.into_iter().zip([a, b, c]) {
            if let [Some(version), Some(updated), Some(deleted), Some(n), Some(as_of)] = fields[..] {
                let held = Held {
                    version,
                    updated: updated / 1_000_000,
                    deleted: deleted == 1,
                    n,
                    as_of: as_of / 1_000_000,
                };
                readings.insert(id.to_owned(), held);
            }
        }
        let previews = queue
            .iter()
            .map(|entry| preview(entry))
            .collect::<anyhow::Result<_>>()?;
        let mark = mark.as_deref().map(position).transpose()?;
        Ok(Seen {
            mark,
            readings,
            previews,
        })
    }
}

/// The first line of a waiting preview: id, version, lastUpdated, received, kind.
fn preview(entry: &[u8]) -> anyhow::Result<Waiting> {
    let line = entry.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line)?;
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [id, version, _, received, ..] = fields[..] else {
        anyhow::bail!("a preview without its line: {line}")
    };
    Ok(Waiting {
        id: id.into(),
        version: version.parse()?,
        received: received.parse::<i64>()? / 1_000_000,
    })
}

/// n, T, bound, xmin, timeline.
fn position(text: &str) -> anyhow::Result<Position> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [n, as_of, bound, _, line] = fields[..] else {
        anyhow::bail!("a mark of another shape: {text}")
    };
    Ok(Position {
        n: n.parse()?,
        as_of: as_of.parse::<i64>()? / 1_000_000,
        bound: bound.parse::<i64>()? / 1_000_000,
        timeline: timeline(line).context("mark")?,
    })
}
