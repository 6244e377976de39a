//! What comes in: readings, previews, marks, types, dead letters (rules 4 and 5).

use api::speed::Reading;
use chrono::{DateTime, TimeDelta, Utc};
use daemon::spans;
use fhir_core::{
    merge::Position,
    resource::{Content, State},
};
use redis::ScriptInvocation;
use tracing::{Instrument as _, Span};

use super::{
    DEAD, Hold, LIFE, Life, MARK, Queued, SpeedStore, StoreError, TYPES, TypeKey, WEBHOOKS, codec, scripts,
};

/// Readings in one script: it holds up Redis for less than a millisecond or two.
const READINGS_A_SCRIPT: usize = 200;
/// Bytes in one script, if there is more than one reading in it.
const BYTES_A_SCRIPT: usize = 4 * 1024 * 1024;
/// How long a DELETE is remembered: much longer than a tail round, and than HAPI goes on trying (57 s).
const TOLD_SECONDS: u32 = 600;
/// Dead letters kept, about: the newest.
const DEAD_LETTERS: usize = 10_000;

/// What became of readings that were offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offered {
    /// Held now: no later one was.
    pub held: u64,
    /// Of these, versions that the tail has seen before any webhook said so.
    pub healed: u64,
}

impl SpeedStore {
    /// Offers readings (rule 4). `Ok(None)`: the store is in another life than `life`, and nothing of the rest was written.
    pub async fn offer_readings(
        &self,
        life: Option<&Life>,
        resource_type: &str,
        readings: &[Reading],
        received: DateTime<Utc>,
    ) -> Result<Option<Offered>, StoreError> {
        let mut offered = Offered::default();
        let mut rest = readings;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(fits(rest));
            rest = later;
            let mut offer = scripts::OFFER_READINGS.prepare_invoke();
            offer
                .key(self.key(LIFE))
                .key(self.type_key(TypeKey::Held, resource_type))
                .key(self.type_key(TypeKey::Recent, resource_type))
                .key(self.type_key(TypeKey::Covered, resource_type))
                .arg(life.map_or("", |life| &life.0))
                .arg(self.reading_prefix(resource_type))
                .arg(self.type_key(TypeKey::Told, resource_type) + ":")
                .arg(self.type_key(TypeKey::ToldDelete, resource_type) + ":")
                .arg(received.timestamp_micros());
            for reading in now {
                put_args(&mut offer, reading);
            }
            let (same_life, held, healed): (u8, u64, u64) =
                offer.invoke_async(&mut self.writes.clone()).await?;
            if same_life == 0 {
                return Ok(None);
            }
            offered.held += held;
            offered.healed += healed;
        }
        Ok(Some(offered))
    }

    /// Puts a webhook's body beside the readings (rule 4).
    pub async fn offer_preview(
        &self,
        resource_type: &str,
        state: &State,
        received: DateTime<Utc>,
    ) -> Result<Queued, StoreError> {
        self.offer_preview_holding(resource_type, state.clone(), received, Box::new(()))
            .await
    }

    /// The same. The state is let go at once; `hold` once Redis has answered, also where whoever asked is gone by then.
    pub async fn offer_preview_holding(
        &self,
        resource_type: &str,
        state: State,
        received: DateTime<Utc>,
        hold: Hold,
    ) -> Result<Queued, StoreError> {
        let offering = offering();
        let entry = codec::encode_preview(&state, received, spans::recorded(&offering));
        let State { id, version, .. } = state;
        self.previews
            .store(resource_type, &id, version, received, entry, hold)
            .instrument(offering)
            .await
    }

    /// What a forwarder puts: the same with a time to live, if one is given, and only if no reading of that version or a higher one is held.
    /// `Ok(None)`: one is.
    pub async fn put_preview(
        &self,
        resource_type: &str,
        state: &State,
        received: DateTime<Utc>,
        time_to_live: Option<TimeDelta>,
    ) -> Result<Option<u64>, StoreError> {
        let offering = offering();
        let micros = time_to_live.and_then(|span| span.num_microseconds());
        let mut put = scripts::PUT_PREVIEW.prepare_invoke();
        put.key(self.type_key(TypeKey::Previews, resource_type))
            .key(self.type_key(TypeKey::PreviewBytes, resource_type))
            .key(self.type_key(TypeKey::PreviewSizes, resource_type))
            .key(self.reading_prefix(resource_type) + &state.id)
            .arg(self.settings.max_previews)
            .arg(self.settings.max_preview_bytes)
            .arg(state.version)
            .arg(micros.map_or_else(String::new, |micros| micros.to_string()))
            .arg(codec::encode_preview(state, received, spans::recorded(&offering)));
        let (taken, dropped): (u8, u64) = put
            .invoke_async(&mut self.writes.clone())
            .instrument(offering)
            .await?;
        self.notify();
        Ok((taken == 1).then_some(dropped))
    }

    /// Notes that a DELETE of a resource has come, and returns the mark of its type.
    pub async fn note_delete(
        &self,
        resource_type: &str,
        id: &str,
        received: DateTime<Utc>,
    ) -> Result<Option<Position>, StoreError> {
        let mut note = scripts::NOTE_DELETE.prepare_invoke();
        note.key(self.key(MARK))
            .key(self.key(WEBHOOKS))
            .key(format!(
                "{}:{id}",
                self.type_key(TypeKey::ToldDelete, resource_type)
            ))
            .arg(resource_type)
            .arg(TOLD_SECONDS)
            .arg(received.timestamp_micros());
        let mark: Option<String> = note.invoke_async(&mut self.writes.clone()).await?;
        mark.as_deref().map(codec::decode_position).transpose()
    }

    /// Notes that a webhook of a type has come that brought no body.
    pub async fn note_webhook(&self, resource_type: &str, received: DateTime<Utc>) -> Result<(), StoreError> {
        Ok(redis::cmd("HSET")
            .arg(self.key(WEBHOOKS))
            .arg(resource_type)
            .arg(received.timestamp_micros())
            .query_async(&mut self.writes.clone())
            .await?)
    }

    /// When the last webhook of each type came, to whichever ingestor.
    pub async fn last_webhooks(&self) -> Result<Vec<(String, DateTime<Utc>)>, StoreError> {
        let all: Vec<(String, i64)> = redis::cmd("HGETALL")
            .arg(self.key(WEBHOOKS))
            .query_async(&mut self.writes.clone())
            .await?;
        let corrupt = StoreError::Corrupt("webhooks");
        all.into_iter()
            .map(|(resource_type, at)| Some((resource_type, DateTime::from_timestamp_micros(at)?)))
            .collect::<Option<_>>()
            .ok_or(corrupt)
    }

    /// The tail's last finished reading of a type.
    pub async fn mark(&self, resource_type: &str) -> Result<Option<Position>, StoreError> {
        let mark: Option<String> = redis::cmd("HGET")
            .arg(self.key(MARK))
            .arg(resource_type)
            .query_async(&mut self.writes.clone())
            .await?;
        mark.as_deref().map(codec::decode_position).transpose()
    }

    /// The marks of several types, in the asked order.
    pub async fn marks(&self, resource_types: &[String]) -> Result<Vec<Option<Position>>, StoreError> {
        if resource_types.is_empty() {
            return Ok(Vec::new());
        }
        let marks: Vec<Option<String>> = redis::cmd("HMGET")
            .arg(self.key(MARK))
            .arg(resource_types)
            .query_async(&mut self.writes.clone())
            .await?;
        marks
            .iter()
            .map(|mark| mark.as_deref().map(codec::decode_position).transpose())
            .collect()
    }

    /// Sets the marks of a finished round, all at once (rule 5). False: the store is in another life than `life`, and no mark was set.
    pub async fn set_marks(&self, life: &Life, marks: &[(&str, &Position)]) -> Result<bool, StoreError> {
        let mut set = scripts::SET_MARK.prepare_invoke();
        set.key(self.key(LIFE)).key(self.key(MARK)).arg(&life.0);
        for (resource_type, position) in marks {
            set.arg(resource_type).arg(codec::encode_position(position));
        }
        let same_life: u8 = set.invoke_async(&mut self.writes.clone()).await?;
        self.notify();
        Ok(same_life == 1)
    }

    /// Keeps the types that views need, for a start without the batch layer.
    pub async fn keep_types(&self, resource_types: &[String]) -> Result<(), StoreError> {
        let mut pipe = redis::pipe();
        pipe.atomic().del(self.key(TYPES)).ignore();
        if !resource_types.is_empty() {
            pipe.sadd(self.key(TYPES), resource_types).ignore();
        }
        Ok(pipe.query_async(&mut self.writes.clone()).await?)
    }

    /// The types that were kept.
    pub async fn kept_types(&self) -> Result<Vec<String>, StoreError> {
        let mut types: Vec<String> = redis::cmd("SMEMBERS")
            .arg(self.key(TYPES))
            .query_async(&mut self.writes.clone())
            .await?;
        types.sort();
        Ok(types)
    }

    /// Notes what could not be accepted: why, the SHA-256 of the body in hex, and its size in bytes.
    pub async fn dead_letter(
        &self,
        reason: &str,
        sha256: &str,
        bytes: u64,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        let mut add = redis::cmd("XADD");
        add.arg(self.key(DEAD))
            .arg("MAXLEN")
            .arg("~")
            .arg(DEAD_LETTERS)
            .arg("*");
        add.arg("reason")
            .arg(reason)
            .arg("sha256")
            .arg(sha256)
            .arg("bytes")
            .arg(bytes);
        add.arg("at").arg(at.timestamp_micros());
        Ok(add.query_async::<()>(&mut self.writes.clone()).await?)
    }
}

/// The span of a preview on its way into Redis: whoever takes it out goes on from there.
fn offering() -> Span {
    tracing::debug_span!(
        "offer",
        otel.kind = "producer",
        db.system.name = "redis",
        db.operation.name = "offer"
    )
}

/// A reading as `hold.lua` takes it, but for the time of its receipt.
pub(super) fn put_args(offer: &mut ScriptInvocation<'_>, reading: &Reading) {
    let Reading { state, n, as_of } = reading;
    let (deleted, body, unreadable) = state.content.parts();
    offer
        .arg(&state.id)
        .arg(n)
        .arg(as_of.timestamp_micros())
        .arg(state.version)
        .arg(state.last_updated.timestamp_micros())
        .arg(u8::from(deleted))
        .arg(body)
        .arg(unreadable);
}

/// How many of these readings go into one script: at least one.
pub(super) fn fits<'a>(readings: impl IntoIterator<Item = &'a Reading>) -> usize {
    let mut bytes = 0;
    let fit = readings
        .into_iter()
        .take(READINGS_A_SCRIPT)
        .take_while(|reading| {
            if let Content::Body(body) = &reading.state.content {
                bytes += body.len();
            }
            bytes <= BYTES_A_SCRIPT
        });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(bytes: usize) -> Reading {
        let content = Content::Body(vec![b' '; bytes]);
        let state = State {
            id: "a".into(),
            version: 1,
            last_updated: DateTime::UNIX_EPOCH,
            content,
        };
        Reading {
            state,
            n: 1,
            as_of: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_script_takes_a_bounded_page_and_at_least_one_reading() {
        assert_eq!(fits(&vec![reading(10); 500]), READINGS_A_SCRIPT);
        assert_eq!(fits(&vec![reading(BYTES_A_SCRIPT / 2); 5]), 2);
        assert_eq!(fits(&vec![reading(BYTES_A_SCRIPT + 1); 5]), 1);
    }
}
