//! Backups of the speed layer: what was saved comes back, nothing goes back, and what was interrupted or damaged harms nothing.

mod folder;
mod rules;
mod s3;
mod served;
mod times;

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use daemon::{Clock, Secret, SystemClock};
use e2e::redis::Redis;
use fhir_core::resource::{Content, State};
use speed_ingestor::{
    backup::{BackupSettings, Backups, S3Settings, Schedule, TargetSettings},
    rounds::Rounds,
};

use crate::kit::{Ingestor, deleted, position, reading, recent, rounds, state};

/// The number of the tail's newest reading.
const NOW: i64 = 1_000;
/// Of the backups' marks.
const MARK: i64 = 900;

/// An ingestor whose tail has come to [`NOW`], and from there on says nothing.
async fn ingestor() -> Ingestor {
    let ingestor = Ingestor::start().await;
    ingestor.hapi.begins_at(NOW);
    ingestor.tail.finish_one().await;
    ingestor.hapi.concludes_nothing(true);
    ingestor.tail.finish_one().await;
    set_marks(&ingestor, MARK).await;
    ingestor
}

async fn set_marks(ingestor: &Ingestor, n: i64) {
    let life = ingestor.store.life().await.unwrap();
    let mark = position(n);
    let types = ["Condition", "Observation", "Patient"].map(|of| (of, &mark));
    assert!(ingestor.store.set_marks(&life, &types).await.unwrap());
}

fn now() -> DateTime<Utc> {
    SystemClock.now()
}

fn folder_target(folder: &Path) -> TargetSettings {
    TargetSettings {
        url: format!("file://{}", folder.display()),
        s3: S3Settings {
            endpoint: String::new(),
            region: "us-east-1".into(),
            access_key_id: Secret::new(""),
            secret_access_key: Secret::new(""),
            session_token: Secret::new(""),
            allow_http: false,
            kms_key_id: String::new(),
        },
    }
}

fn backups(ingestor: &Ingestor, target: TargetSettings) -> Backups {
    backups_with(ingestor, target, Schedule::OnDemand, 3, Arc::new(SystemClock))
}

fn backups_with(
    ingestor: &Ingestor,
    target: TargetSettings,
    schedule: Schedule,
    keep: usize,
    clock: Arc<dyn Clock>,
) -> Backups {
    let rounds = rounds(&ingestor.hapi, &ingestor.store, &ingestor.needed, &ingestor.tail);
    let settings = BackupSettings {
        target,
        schedule,
        keep,
    };
    Backups::new(settings, &Rounds { clock, ..rounds })
}

/// Readings of every form: 1,203 of Patient, two of Condition, none of Observation; the first 400 of Patient are covered by the batch.
async fn fill(ingestor: &Ingestor) {
    let now = now();
    let mut readings: Vec<_> = (0..1_200)
        .map(|i| reading(state(&format!("p{i}"), 1 + i % 7), 1 + i))
        .map(|mut reading| {
            reading.n %= MARK;
            reading
        })
        .collect();
    let with = |id: &str, content: Content| State {
        content,
        ..state(id, 3)
    };
    readings.push(reading(deleted("gone", 2), 700));
    readings.push(reading(
        with("odd", Content::Body(b"{\"a\":\n 1.50}".to_vec())),
        701,
    ));
    readings.push(reading(
        with("dark", Content::Unreadable("kept elsewhere".into())),
        702,
    ));
    offer(ingestor, "Patient", &readings).await;
    offer(
        ingestor,
        "Condition",
        &[reading(state("c1", 1), 7), reading(state("c2", 5), 8)],
    )
    .await;
    let released = ingestor.store.release("Patient", 400, now).await.unwrap();
    assert!(released.covered >= 400 && released.expired == 0, "{released:?}");
}

async fn offer(ingestor: &Ingestor, resource_type: &str, readings: &[api::speed::Reading]) {
    ingestor
        .store
        .offer_readings(None, resource_type, readings, now())
        .await
        .unwrap()
        .unwrap();
}

async fn connection(redis: &Redis) -> redis::aio::MultiplexedConnection {
    redis::Client::open(redis.url())
        .unwrap()
        .get_multiplexed_async_connection()
        .await
        .unwrap()
}

async fn wipe(redis: &Redis) {
    redis::cmd("FLUSHALL")
        .query_async::<()>(&mut connection(redis).await)
        .await
        .unwrap();
}

/// All that is held, as anyone can read it: hashes with their fields and expiry, sorted sets with their scores. Not the marks, the life, and who backs up.
async fn contents(redis: &Redis) -> BTreeMap<String, Vec<String>> {
    let mut connection = connection(redis).await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut connection)
        .await
        .unwrap();
    let mut contents = BTreeMap::new();
    for key in keys {
        let kind: String = redis::cmd("TYPE")
            .arg(&key)
            .query_async(&mut connection)
            .await
            .unwrap();
        let mut held: Vec<String> = match (key.as_str(), kind.as_str()) {
            ("fhir:mark", _) | (_, "string") => continue,
            (_, "hash") => {
                let fields: BTreeMap<String, Vec<u8>> = redis::cmd("HGETALL")
                    .arg(&key)
                    .query_async(&mut connection)
                    .await
                    .unwrap();
                fields
                    .iter()
                    .map(|(field, value)| format!("{field}={}", value.escape_ascii()))
                    .collect()
            }
            (_, "zset") => {
                let members: Vec<(String, f64)> = redis::cmd("ZRANGE")
                    .arg(&key)
                    .arg(0)
                    .arg(-1)
                    .arg("WITHSCORES")
                    .query_async(&mut connection)
                    .await
                    .unwrap();
                members
                    .iter()
                    .map(|(member, score)| format!("{member}={score}"))
                    .collect()
            }
            (_, other) => panic!("{key} is a {other}"),
        };
        held.sort();
        let expires: i64 = redis::cmd("PEXPIRETIME")
            .arg(&key)
            .query_async(&mut connection)
            .await
            .unwrap();
        held.push(format!("expires {expires}"));
        contents.insert(key, held);
    }
    contents
}

/// Says which keys differ, and no more.
fn assert_same(found: &BTreeMap<String, Vec<String>>, expected: &BTreeMap<String, Vec<String>>, what: &str) {
    let differs = |key: &&String| found.get(*key) != expected.get(*key);
    let keys: Vec<&String> = found
        .keys()
        .chain(expected.keys())
        .filter(differs)
        .take(5)
        .collect();
    assert!(keys.is_empty(), "{what}: others in {keys:?}");
}

/// The version and number that are held of a resource.
async fn held(ingestor: &Ingestor, id: &str) -> Option<(i64, i64)> {
    let (version, n): (Option<i64>, Option<i64>) = redis::cmd("HMGET")
        .arg(format!("fhir:Patient:{id}"))
        .arg("version")
        .arg("n")
        .query_async(&mut connection(&ingestor.redis).await)
        .await
        .unwrap();
    version.zip(n)
}

/// Readings whose bodies cannot be compressed much: of a mebibyte each.
async fn fill_with_megabytes(ingestor: &Ingestor, megabytes: u64) {
    use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
    // The same text in each: gzip does not look back so far.
    let mut dice = StdRng::seed_from_u64(7);
    let text: String = (0..1 << 20)
        .map(|_| char::from(dice.random_range(b'_'..=b'z')))
        .collect();
    for i in 0..megabytes {
        let body = format!(r#"{{"resourceType":"Patient","id":"m{i}","text":"{text}"}}"#);
        let state = State {
            content: Content::Body(body.into_bytes()),
            ..state(&format!("m{i}"), 1)
        };
        offer(ingestor, "Patient", &[reading(state, 500)]).await;
    }
}

const SOON: Duration = Duration::from_secs(20);
