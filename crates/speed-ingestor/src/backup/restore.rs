//! Restoring: all sums first, then the readings by the law of versions, then what has happened since.

use std::time::Duration;

use api::ServiceError;
use chrono::{DateTime, TimeDelta, Utc};
use fhir_core::merge::Position;

use super::{
    BackupError, BackupName, Backups, Held, Parts, Target,
    format::{Malformed, Manifest, TypeSaved, Unpacker},
    known,
    target::{Reader, damaged},
};
use crate::store::{Life, SavedReading};

/// How long to wait for a round of the tail.
const ROUND_TIME: Duration = Duration::from_secs(30);

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The backup.
    pub name: String,
    /// In the order of their names.
    pub types: Vec<RestoredType>,
}

/// What became of the readings of a type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoredType {
    /// Resource type.
    pub resource_type: String,
    /// Put back.
    pub restored: u64,
    /// Untouched, as a later reading was held.
    pub newer: u64,
    /// Untouched, as this very reading was held.
    pub same: u64,
    /// Covered by the batch, and past their time to live.
    pub expired: u64,
    /// Left out: no view needs the type now.
    pub not_needed: u64,
    /// Committed since the backup's mark: read from HAPI.
    pub caught_up: u64,
}

impl Backups {
    /// Restores a backup; the newest one if none is named.
    pub async fn restore(&self, name: Option<&str>) -> Result<Restored, BackupError> {
        let parts = &*self.0;
        let mut held = parts.lock().await?;
        let result = parts.restore(&mut held, name).await;
        held.give_back().await;
        match &result {
            Ok(restored) => tracing::warn!(
                name = restored.name,
                readings = restored.types.iter().map(|of| of.restored).sum::<u64>(),
                "restored on demand"
            ),
            Err(error) => tracing::warn!(%error, "the restore failed"),
        }
        result
    }

    /// The newest complete backup.
    pub(super) async fn list_newest(&self) -> Result<Option<Manifest>, BackupError> {
        let target = self.0.target().await?;
        match target.complete().await?.first() {
            Some(name) => target.manifest(name).await,
            None => Ok(None),
        }
    }
}

impl Parts {
    async fn restore(&self, held: &mut Held<'_>, name: Option<&str>) -> Result<Restored, BackupError> {
        let target = self.target().await?;
        let (name, manifest) = find(target, name).await?;
        self.check(&manifest).await?;
        let needed = self.needed.types().ok_or(BackupError::TooEarly(
            "it is not known yet which types views need",
        ))?;
        let (wanted, left_out): (Vec<&TypeSaved>, Vec<&TypeSaved>) = manifest
            .types
            .iter()
            // Of a type without a mark it is not known from where on to read again.
            .partition(|saved| needed.contains(&saved.resource_type) && saved.mark.is_some());
        let mut objects = Vec::with_capacity(wanted.len());
        for saved in wanted {
            objects.push((saved, verify(held, target, &name, saved).await?));
        }
        let life = self.store.life().await?;
        let mut types: Vec<RestoredType> = left_out
            .into_iter()
            .map(|saved| RestoredType {
                resource_type: saved.resource_type.clone(),
                not_needed: saved.readings,
                ..RestoredType::default()
            })
            .collect();
        let mut since: Vec<(String, Position)> = Vec::new();
        for (saved, mut reader) in objects {
            types.push(self.put_back(held, &life, saved, &name, &mut reader).await?);
            since.extend(
                saved
                    .mark
                    .clone()
                    .map(|mark| (saved.resource_type.clone(), mark.into())),
            );
        }
        let caught_up = self
            .batch
            .catch_up(life, since)
            .await
            .map_err(BackupError::NotCaughtUp)?;
        for of in &mut types {
            of.caught_up = caught_up.get(&of.resource_type).copied().unwrap_or_default();
        }
        types.sort_unstable_by(|a, b| a.resource_type.cmp(&b.resource_type));
        Ok(Restored {
            name: name.to_string(),
            types,
        })
    }

    /// Refuses a backup whose numbers mean something else here. What they mean the tail's newest reading says; where that is not known, or may be older
    /// than the backup, the next one's.
    async fn check(&self, manifest: &Manifest) -> Result<(), BackupError> {
        let known = self.tail.newest();
        if let Some(now) = &known
            && now.n >= known::highest_n(manifest)
        {
            return known::check(manifest, now);
        }
        let no_round = || {
            let reason = self.tail.health(self.clock.now()).err();
            let reason = reason.unwrap_or_else(|| "no reading could promise anything".to_owned());
            let message = format!(
                "it is not known which number readings have now, as the tail has not finished a round: {reason}"
            );
            BackupError::Tail(ServiceError::new(api::Code::Unavailable, message))
        };
        tokio::time::timeout(ROUND_TIME, self.tail.finish_one())
            .await
            .map_err(|_| no_round())?;
        known::check(manifest, &self.tail.newest().ok_or_else(no_round)?)
    }

    async fn put_back(
        &self,
        held: &mut Held<'_>,
        life: &Life,
        saved: &TypeSaved,
        name: &BackupName,
        reader: &mut Reader<'_>,
    ) -> Result<RestoredType, BackupError> {
        let published_n = self
            .tail
            .of_type(&saved.resource_type)
            .map_or(0, |round| round.published_n);
        let mut done = RestoredType {
            resource_type: saved.resource_type.clone(),
            ..RestoredType::default()
        };
        let changed = || BackupError::Changed {
            name: name.to_string(),
            object: saved.object.clone(),
        };
        let mut unpacker = Unpacker::default();
        while let Some(part) = next_part(reader).await?.ok_or_else(changed)? {
            for slice in Unpacker::slices(&part) {
                let readings = unpacker.feed(slice).map_err(|_| changed())?;
                self.offer(life, published_n, readings, &mut done).await?;
            }
            held.keep().await?;
        }
        let (rest, found) = unpacker.finish().map_err(|_| changed())?;
        self.offer(life, published_n, rest, &mut done).await?;
        if found == saved.sum() {
            Ok(done)
        } else {
            Err(changed())
        }
    }

    async fn offer(
        &self,
        life: &Life,
        published_n: i64,
        mut readings: Vec<SavedReading>,
        done: &mut RestoredType,
    ) -> Result<(), BackupError> {
        let all = readings.len() as u64;
        let (time_to_live, now) = (self.store.time_to_live(), self.clock.now());
        readings.retain(|saved| !is_over(saved, published_n, time_to_live, now));
        let offered = readings.len() as u64;
        let put_back = self.store.put_back(life, &done.resource_type, &readings).await?;
        done.expired += all - offered;
        done.restored += put_back.put_back;
        done.newer += put_back.later;
        done.same += offered - put_back.put_back - put_back.later;
        Ok(())
    }
}

/// The batch has it, and it would leave at once.
fn is_over(saved: &SavedReading, published_n: i64, time_to_live: TimeDelta, now: DateTime<Utc>) -> bool {
    saved.reading.n <= published_n
        && saved
            .received
            .checked_add_signed(time_to_live)
            .is_some_and(|end| end <= now)
}

async fn find(target: &Target, name: Option<&str>) -> Result<(BackupName, Manifest), BackupError> {
    let name = match name {
        Some(text) => {
            BackupName::parse(text).ok_or_else(|| BackupError::Unknown(text.chars().take(100).collect()))?
        }
        None => target
            .complete()
            .await?
            .into_iter()
            .next()
            .ok_or(BackupError::None)?,
    };
    match target.manifest(&name).await? {
        Some(manifest) => Ok((name, manifest)),
        None => Err(BackupError::Unknown(name.to_string())),
    }
}

/// Reads an object to its end, and writes nothing.
async fn verify<'a>(
    held: &mut Held<'_>,
    target: &'a Target,
    name: &BackupName,
    saved: &TypeSaved,
) -> Result<Reader<'a>, BackupError> {
    let wrong = |what: &'static str| damaged(name, &saved.object, what);
    let malformed = |Malformed(what)| wrong(what);
    let mut reader = target
        .read(name, &saved.object)
        .await?
        .ok_or_else(|| wrong("it is missing"))?;
    let mut unpacker = Unpacker::default();
    while let Some(part) = next_part(&mut reader)
        .await?
        .ok_or_else(|| wrong("it has changed meanwhile"))?
    {
        for slice in Unpacker::slices(&part) {
            unpacker.feed(slice).map_err(malformed)?;
            tokio::task::yield_now().await;
        }
        held.keep().await?;
    }
    let (_, found) = unpacker.finish().map_err(malformed)?;
    if found != saved.sum() {
        return Err(wrong("its SHA-256 is another one"));
    }
    reader.rewind();
    Ok(reader)
}

/// `Ok(None)`: the object is not the one that it was. `Ok(Some(None))`: the end.
async fn next_part(reader: &mut Reader<'_>) -> Result<Option<Option<bytes::Bytes>>, BackupError> {
    match reader.next().await {
        Ok(part) => Ok(Some(part)),
        Err(object_store::Error::Precondition { .. } | object_store::Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
