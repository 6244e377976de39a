//! Previews on their way into Redis, in groups: while groups are under way the next one gathers, and each type of a group takes one transaction. So a flood of
//! webhooks costs Redis a few hundred transactions a second, and with `appendfsync always` as few writes to the disk; a single one waits for nobody.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use redis::{Cmd, ErrorKind, RedisError, ServerErrorKind};
use tokio::sync::{mpsc, oneshot, watch};

use super::{Connection, Keys, StoreError, StoreSettings, TypeKey, WEBHOOKS, scripts};

/// Groups that are on their way at the same time: while Redis works on one, the next one travels.
const GROUPS_UNDER_WAY: usize = 3;
/// Previews of a group, of all types.
const PREVIEWS_A_GROUP: usize = 256;
/// Bytes in one transaction, if there is more than one preview in it: it holds up Redis for a millisecond or two.
const BYTES_A_TRANSACTION: usize = 4 * 1024 * 1024;

/// Whatever must not be let go before a preview is stored.
pub type Hold = Box<dyn Send + Sync>;

/// What became of previews.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queued {
    /// Older ones that had to go to keep the bounds of the queue.
    pub dropped: u64,
    /// Of a version that a webhook had told before.
    pub repeated: u64,
    /// Of an earlier version than a webhook had told.
    pub late: u64,
    /// Of a version that a reading was held of already, or of an earlier one.
    pub useless: u64,
}

type Stored = Result<Queued, StoreError>;

/// A preview that is to be stored.
pub(super) struct Waiting {
    resource_type: String,
    id: String,
    version: i64,
    received: DateTime<Utc>,
    /// As it will lie in Redis.
    entry: Vec<u8>,
    told: oneshot::Sender<Stored>,
    hold: Hold,
}

/// Where previews are handed in. Cheap to clone; with the last clone the work ends.
#[derive(Debug, Clone)]
pub(super) struct Grouped(mpsc::Sender<Waiting>);

impl Grouped {
    /// Begins the work. Needs a tokio runtime.
    pub(super) fn begin(
        writes: Connection,
        keys: Keys,
        settings: &StoreSettings,
        changed: watch::Sender<u64>,
    ) -> Self {
        let (sender, waiting) = mpsc::channel(PREVIEWS_A_GROUP);
        let this = Writer {
            writes,
            keys,
            max_previews: settings.max_previews,
            max_preview_bytes: settings.max_preview_bytes,
            // Redis answers within the time that it has for an answer.
            sync_time: settings.wait_for_disk.then(|| settings.response_timeout * 9 / 10),
            changed,
        };
        tokio::spawn(this.run(waiting));
        Self(sender)
    }

    /// Waits until Redis has it. If whoever waits goes meanwhile, `hold` stays until then all the same.
    pub(super) async fn store(
        &self,
        resource_type: &str,
        id: &str,
        version: i64,
        received: DateTime<Utc>,
        entry: Vec<u8>,
        hold: Hold,
    ) -> Stored {
        let (told, answer) = oneshot::channel();
        let waiting = Waiting {
            resource_type: resource_type.to_owned(),
            id: id.to_owned(),
            version,
            received,
            entry,
            told,
            hold,
        };
        self.0.send(waiting).await.map_err(|_| StoreError::Stopping)?;
        answer.await.map_err(|_| StoreError::Stopping)?
    }
}

struct Writer {
    writes: Connection,
    keys: Keys,
    max_previews: u32,
    max_preview_bytes: u64,
    sync_time: Option<Duration>,
    changed: watch::Sender<u64>,
}

impl Writer {
    async fn run(self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            let mut group = Vec::new();
            tokio::select! {
                // What is under way comes first: whoever waits for it sends the next ones.
                biased;
                Some(()) = under_way.next() => {}
                count = waiting.recv_many(&mut group, PREVIEWS_A_GROUP), if under_way.len() < GROUPS_UNDER_WAY => {
                    if count == 0 {
                        break;
                    }
                    under_way.push(self.store_group(group));
                }
            }
        }
        while under_way.next().await.is_some() {}
    }

    /// Groups are sent in their order, and Redis takes them so.
    async fn store_group(&self, group: Vec<Waiting>) {
        let transactions = transactions_of(group);
        let stored = join_all(transactions.iter().map(|previews| self.store(previews))).await;
        let on_disk = match self.sync_time {
            Some(most) if stored.iter().any(Result::is_ok) => self.sync(most).await,
            _ => Ok(()),
        };
        for (previews, stored) in transactions.into_iter().zip(stored) {
            tell(
                previews,
                &stored.and_then(|queued| on_disk.clone().map(|()| queued)),
            );
        }
        self.changed.send_modify(|count| *count += 1);
    }

    /// Previews of one type, in the order in which they came.
    async fn store(&self, previews: &[Waiting]) -> Stored {
        let Some(last) = previews.last() else {
            return Ok(Queued::default());
        };
        let of_type = |kind| self.keys.of_type(kind, &last.resource_type);
        let mut push = Cmd::with_capacity(2 + previews.len(), bytes_of(previews));
        push.arg("RPUSH").arg(of_type(TypeKey::Previews));
        let mut count = redis::cmd("EVALSHA");
        count
            .arg(scripts::OFFER_PREVIEWS.get_hash())
            .arg(4)
            .arg(of_type(TypeKey::Previews))
            .arg(of_type(TypeKey::PreviewBytes))
            .arg(of_type(TypeKey::PreviewSizes))
            .arg(self.keys.named(WEBHOOKS))
            .arg(of_type(TypeKey::Told) + ":")
            .arg(self.keys.of_readings(&last.resource_type))
            .arg(&last.resource_type)
            .arg(last.received.timestamp_micros())
            .arg(self.max_previews)
            .arg(self.max_preview_bytes);
        for preview in previews {
            push.arg(&preview.entry);
            count
                .arg(&preview.id)
                .arg(preview.version)
                .arg(preview.entry.len());
        }
        let (dropped, repeated, late, useless) = self.put(push, count).await?;
        Ok(Queued {
            dropped,
            repeated,
            late,
            useless,
        })
    }

    /// Puts bodies at the end of the queue, and calls the script that counts them, at once.
    async fn put(&self, push: Cmd, count: Cmd) -> Result<(u64, u64, u64, u64), RedisError> {
        let mut writes = self.writes.clone();
        let mut transaction = redis::pipe();
        transaction
            .atomic()
            .add_command(push)
            .ignore()
            .add_command(count.clone());
        match transaction.query_async(&mut writes).await {
            Ok((counted,)) => Ok(counted),
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                // This Redis was begun anew. The bodies are in; the script sees that they were not counted yet.
                scripts::OFFER_PREVIEWS.load_async(&mut writes).await?;
                count.query_async(&mut writes).await
            }
            Err(error) => Err(first_of(error)),
        }
    }

    /// Waits until the append-only file is on the disk. The connection waits too, so it is nobody else's; and it is not asked again over another one, which
    /// has written nothing to wait for.
    async fn sync(&self, most: Duration) -> Result<(), StoreError> {
        let (own, _replicas): (u64, u64) = redis::cmd("WAITAOF")
            .arg(1)
            .arg(0)
            .arg(u64::try_from(most.as_millis()).unwrap_or(u64::MAX))
            .query_async(&mut self.writes.0.clone())
            .await?;
        if own == 1 {
            Ok(())
        } else {
            Err(StoreError::NotSynced)
        }
    }
}

/// Why a transaction failed: the first of what its commands got, which says more than that it was not done.
fn first_of(error: RedisError) -> RedisError {
    let errors = error.clone().into_server_errors();
    match errors.as_deref().and_then(<[_]>::first) {
        Some((_, first)) => first.clone().into(),
        None => error,
    }
}

/// Tells whoever waits for these; whoever no longer does is not told.
fn tell(previews: Vec<Waiting>, stored: &Stored) {
    let mut queued = stored.as_ref().copied().unwrap_or_default();
    for preview in previews {
        // Counted once.
        let told = stored.clone().map(|_| std::mem::take(&mut queued));
        drop(preview.hold);
        let _gone = preview.told.send(told);
    }
}

/// Takes a group apart: one transaction for each type, and one more for each four megabytes.
fn transactions_of(group: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let mut types: BTreeMap<String, Vec<Vec<Waiting>>> = BTreeMap::new();
    for preview in group {
        let transactions = types.entry(preview.resource_type.clone()).or_default();
        let fits = transactions
            .last()
            .is_some_and(|previews| bytes_of(previews) + preview.entry.len() <= BYTES_A_TRANSACTION);
        match transactions.last_mut() {
            Some(previews) if fits => previews.push(preview),
            _ => transactions.push(vec![preview]),
        }
    }
    types.into_values().flatten().collect()
}

fn bytes_of(previews: &[Waiting]) -> usize {
    previews.iter().map(|preview| preview.entry.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(resource_type: &str, version: i64, bytes: usize) -> Waiting {
        Waiting {
            resource_type: resource_type.to_owned(),
            id: "a".to_owned(),
            version,
            received: DateTime::UNIX_EPOCH,
            entry: vec![b' '; bytes],
            told: oneshot::channel().0,
            hold: Box::new(()),
        }
    }

    fn taken_apart(group: Vec<Waiting>) -> Vec<Vec<i64>> {
        let transactions = transactions_of(group);
        transactions
            .iter()
            .map(|previews| previews.iter().map(|preview| preview.version).collect())
            .collect()
    }

    #[test]
    fn a_group_takes_a_transaction_a_type_in_the_order_in_which_previews_came() {
        let group = vec![
            waiting("Patient", 1, 10),
            waiting("Goal", 2, 10),
            waiting("Patient", 3, 10),
        ];
        assert_eq!(taken_apart(group), [vec![2], vec![1, 3]]);
    }

    #[test]
    fn a_transaction_is_bounded_in_bytes_and_takes_one_preview_at_least() {
        let large = BYTES_A_TRANSACTION - 10;
        let group = vec![
            waiting("Patient", 1, large),
            waiting("Patient", 2, 10),
            waiting("Patient", 3, 1),
            waiting("Patient", 4, BYTES_A_TRANSACTION * 2),
        ];
        assert_eq!(taken_apart(group), [vec![1, 2], vec![3], vec![4]]);
    }
}
