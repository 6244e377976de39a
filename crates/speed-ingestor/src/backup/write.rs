//! Making a backup: marks, readings, manifest, in this order; then what is no longer kept goes.

use chrono::{DateTime, TimeDelta};
use fhir_core::merge::Position;
use object_store::buffered::BufWriter;
use tokio::{io::AsyncWriteExt as _, time::Instant};

use super::{
    BackupError, BackupName, Backups, Held, Parts, Schedule, Target,
    format::{FORMAT, Manifest, Packer, TypeSaved},
};
use crate::{
    measures::BackupLabel,
    store::{Life, StoreError},
};

/// How old what an upload has left must be before it is cleared away: no backup takes that long.
const LEFTOVERS: TimeDelta = TimeDelta::days(1);

impl Backups {
    /// Makes a backup now. Returns how many seconds it took, too.
    pub async fn back_up(&self) -> Result<(Manifest, f64), BackupError> {
        self.counted(None).await
    }

    /// Makes the backup that is due, unless another ingestor has.
    pub(super) async fn back_up_if_due(&self, schedule: &Schedule) -> Result<(Manifest, f64), BackupError> {
        self.counted(Some(schedule)).await
    }

    async fn counted(&self, schedule: Option<&Schedule>) -> Result<(Manifest, f64), BackupError> {
        let parts = &*self.0;
        let begun = Instant::now();
        let result = parts.locked(schedule).await;
        let seconds = begun.elapsed().as_secs_f64();
        let outcome = match &result {
            Ok(_) => "finished",
            Err(BackupError::Busy | BackupError::NotDue | BackupError::TooEarly(_)) => "skipped",
            Err(_) => "failed",
        };
        parts
            .measures
            .backups
            .get_or_create(&BackupLabel { outcome })
            .inc();
        match &result {
            Ok(manifest) => {
                parts.measures.backup_duration_seconds.set(seconds);
                parts.note_newest(Some(manifest.clone()));
                let mut last = parts.last();
                (last.seconds, last.error) = (seconds, None);
                tracing::info!(
                    name = manifest.name,
                    readings = manifest.readings(),
                    bytes = manifest.bytes(),
                    duration_seconds = seconds,
                    "backed up"
                );
            }
            Err(error) if outcome == "failed" => parts.last().error = Some(error.to_string()),
            Err(_) => {}
        }
        result.map(|manifest| (manifest, seconds))
    }
}

impl Parts {
    async fn locked(&self, schedule: Option<&Schedule>) -> Result<Manifest, BackupError> {
        let mut held = self.lock().await?;
        let result = self.write(&mut held, schedule).await;
        held.give_back().await;
        result
    }

    async fn write(&self, held: &mut Held<'_>, schedule: Option<&Schedule>) -> Result<Manifest, BackupError> {
        let target = self.target().await?;
        let now = self.clock.now();
        if let Some(schedule) = schedule {
            let complete = target.complete().await?;
            let last = complete.iter().map(BackupName::at).find(|at| *at <= now);
            if schedule.due(last).is_none_or(|due| due > now) {
                return Err(BackupError::NotDue);
            }
        }
        let types = self.needed.types().ok_or(BackupError::TooEarly(
            "it is not known yet which types views need",
        ))?;
        // The marks first: what they promise must not be more than what is read after them.
        let life = self.store.life().await?;
        let marks = self.store.marks(&types).await?;
        if marks.iter().all(Option::is_none) {
            return Err(BackupError::TooEarly(
                "no round of the tail has finished yet: it is not known what the store lacks",
            ));
        }
        let name = BackupName::new(now, held.lock.token());
        let mut saved = Vec::with_capacity(types.len());
        for (resource_type, mark) in types.iter().zip(marks) {
            saved.push(
                self.write_type(held, target, &name, &life, resource_type, mark)
                    .await?,
            );
        }
        // What was lost meanwhile is not in it, but was before the marks.
        if self.store.life().await? != life {
            return Err(StoreError::Restarted.into());
        }
        held.keep_at_once().await?;
        let manifest = Manifest {
            format: FORMAT,
            name: name.to_string(),
            created_at: now,
            service_version: env!("CARGO_PKG_VERSION").to_owned(),
            types: saved,
        };
        target.put_manifest(&name, &manifest).await?;
        if let Err(error) = self.clear(held, target).await {
            tracing::warn!(%error, "backups that are no longer kept cannot be deleted");
        }
        Ok(manifest)
    }

    async fn write_type(
        &self,
        held: &mut Held<'_>,
        target: &Target,
        name: &BackupName,
        life: &Life,
        resource_type: &str,
        mark: Option<Position>,
    ) -> Result<TypeSaved, BackupError> {
        let object = format!("{resource_type}.ndjson.gz");
        let mut writer = target.write(name, &object);
        let filled = self.fill(held, &mut writer, life, resource_type).await;
        let packer = match filled {
            Ok(packer) => packer,
            Err(error) => {
                // If this fails too, what is left goes after a day.
                let _ = writer.abort().await;
                return Err(error);
            }
        };
        let (rest, sum, highest_n) = packer.finish()?;
        let written = async {
            writer.put(rest.into()).await?;
            writer.shutdown().await
        };
        written.await.map_err(of_target)?;
        Ok(TypeSaved {
            resource_type: resource_type.to_owned(),
            object,
            bytes: sum.bytes,
            sha256: sum.sha256,
            readings: sum.readings,
            highest_n,
            mark: mark.map(Into::into),
        })
    }

    async fn fill(
        &self,
        held: &mut Held<'_>,
        writer: &mut BufWriter,
        life: &Life,
        resource_type: &str,
    ) -> Result<Packer, BackupError> {
        let mut packer = Packer::default();
        let mut saving = self.store.save(life, resource_type);
        while let Some(page) = self.store.next_saved(&mut saving).await? {
            // Milliseconds of work, in which no webhook should have to wait.
            let (back, drained) = tokio::task::spawn_blocking(move || {
                let pushed = page.iter().try_for_each(|saved| packer.push(saved));
                let drained = pushed.map(|()| packer.drain());
                (packer, drained)
            })
            .await
            .map_err(std::io::Error::from)?;
            packer = back;
            let part = drained?;
            if !part.is_empty() {
                writer.put(part.into()).await?;
            }
            held.keep().await?;
        }
        Ok(packer)
    }

    /// The newest complete backups stay. Of the others those go that are complete, or too old to be under way.
    async fn clear(&self, held: &mut Held<'_>, target: &Target) -> Result<(), BackupError> {
        let complete = target.complete().await?;
        let gone_by = self.clock.now() - LEFTOVERS;
        for name in target.names().await? {
            let goes = match complete.iter().position(|known| *known == name) {
                Some(place) => place >= self.settings.keep,
                None => name.at() < gone_by,
            };
            if goes {
                target.delete(&name).await?;
                held.keep().await?;
            }
        }
        Ok(())
    }

    /// The newest complete backup, whichever ingestor has made it.
    pub(super) fn note_newest(&self, manifest: Option<Manifest>) {
        if let Some(manifest) = &manifest {
            self.measures
                .backup_last_seconds
                .set((manifest.created_at - DateTime::UNIX_EPOCH).as_seconds_f64());
            self.measures
                .backup_bytes
                .set(i64::try_from(manifest.bytes()).unwrap_or(i64::MAX));
        }
        let mut last = self.last();
        last.next = self
            .settings
            .schedule
            .due(manifest.as_ref().map(|of| of.created_at));
        last.backup = manifest;
    }
}

/// A writer wraps the errors of its target.
fn of_target(error: std::io::Error) -> BackupError {
    match error.downcast::<object_store::Error>() {
        Ok(error) => BackupError::Target(error),
        Err(error) => BackupError::Folder(error),
    }
}
