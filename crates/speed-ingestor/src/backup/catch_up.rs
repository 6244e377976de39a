//! What was committed since a backup, and was covered by the batch before its restore: the tail reads nothing of it any more.

use std::{collections::BTreeMap, sync::Arc};

use api::{Code, ServiceError};
use daemon::Clock;
use fhir_core::merge::Position;
use futures::future::BoxFuture;

use crate::{
    store::{Life, SpeedStore},
    tail::{OpenedReading, ReadingPart, RereadsFrom, TailError, by_type},
};

/// How many later readings a reading since the marks of a backup has brought, by type.
pub(super) type CaughtUp = BTreeMap<String, u64>;

/// Reads HAPI after a restore.
pub(super) trait CatchUp: Send + Sync {
    /// Offers what has changed since these positions, whatever the batch has covered meanwhile.
    fn catch_up(
        &self,
        life: Life,
        since: Vec<(String, Position)>,
    ) -> BoxFuture<'_, Result<CaughtUp, ServiceError>>;
}

/// A reading of its own, outside the tail's rounds: it is offered like theirs, and sets no mark.
pub(super) struct Reread<R> {
    /// Whoever reads HAPI.
    pub(super) reader: R,
    /// Where readings go.
    pub(super) store: SpeedStore,
    /// The time.
    pub(super) clock: Arc<dyn Clock>,
}

impl<R: RereadsFrom> CatchUp for Reread<R> {
    fn catch_up(
        &self,
        life: Life,
        since: Vec<(String, Position)>,
    ) -> BoxFuture<'_, Result<CaughtUp, ServiceError>> {
        Box::pin(async move {
            if since.is_empty() {
                return Ok(CaughtUp::default());
            }
            self.read(&life, since).await.map_err(|error| match error {
                TailError::Read(error) => error,
                TailError::Store(error) => error.into(),
            })
        })
    }
}

impl<R: RereadsFrom> Reread<R> {
    async fn read(&self, life: &Life, since: Vec<(String, Position)>) -> Result<CaughtUp, TailError> {
        let begun = self.reader.begin().await?;
        let Some(mut opened) = self.reader.open_from(begun, since).await? else {
            return Err(ServiceError::new(Code::Precondition, "a full refresh must come first").into());
        };
        let mark = opened.mark();
        let mut caught_up = CaughtUp::default();
        loop {
            match opened.next().await? {
                ReadingPart::States(states) => {
                    for (resource_type, readings) in by_type(states, mark.n, mark.as_of) {
                        let offered = self
                            .store
                            .offer_readings(Some(life), &resource_type, &readings, self.clock.now())
                            .await?
                            .ok_or(crate::store::StoreError::Restarted)?;
                        *caught_up.entry(resource_type).or_default() += offered.held;
                    }
                }
                ReadingPart::End(types) => {
                    let left_out = types
                        .iter()
                        .find(|reading| reading.full_refresh_needed || reading.refresh_nudged);
                    return match left_out {
                        None => Ok(caught_up),
                        Some(left_out) => {
                            let message = format!(
                                "{}: so much has changed that a refresh must come first",
                                left_out.resource_type
                            );
                            Err(ServiceError::new(Code::Precondition, message).into())
                        }
                    };
                }
            }
        }
    }
}
