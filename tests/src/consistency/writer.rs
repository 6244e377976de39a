//! Writers: each has resources of its own, and writes them through HAPI's REST API, one after the other or several in a transaction.

use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

use super::scene::Scene;
use super::subjects::{Kind, Subject};
use crate::fhir::{Fhir, versions_of_transaction};

/// Between two writes of a writer, at most.
const PAUSE: Duration = Duration::from_millis(60);

/// Entries of a transaction at most.
const TRANSACTION: usize = 15;

/// Between two looks at what became of a write.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A writer.
pub struct Writer {
    scene: Arc<Scene>,
    fhir: Fhir,
    mine: Vec<Mine>,
    dice: StdRng,
}

struct Mine {
    subject: Subject,
    /// Sequence number of the next change.
    next: u64,
    exists: bool,
}

/// A change that is on its way.
struct Started {
    index: usize,
    place: usize,
    state: Option<u64>,
}

impl Writer {
    /// One who writes these.
    pub fn new(scene: Arc<Scene>, fhir: Fhir, subjects: Vec<Subject>, seed: u64) -> Self {
        let mine = subjects.into_iter().map(|subject| Mine {
            subject,
            next: 1,
            exists: false,
        });
        Self {
            scene,
            fhir,
            mine: mine.collect(),
            dice: StdRng::seed_from_u64(seed),
        }
    }

    /// Creates all that others refer to.
    pub async fn create_homes(&mut self) {
        let homes: Vec<usize> = (0..self.mine.len())
            .filter(|index| self.mine[*index].subject.kind == Kind::Home)
            .collect();
        self.put_together(&homes).await;
    }

    /// Writes until the end of writing.
    pub async fn run(mut self) {
        while self.scene.is_writing() && !self.mine.is_empty() {
            let index = self.dice.random_range(0..self.mine.len());
            let Mine { subject, exists, .. } = &self.mine[index];
            match self.dice.random_range(0..100) {
                0..20 if *exists && subject.kind != Kind::Home => self.delete(index).await,
                20..30 => {
                    let size = self.dice.random_range(2..=TRANSACTION);
                    let mut together: Vec<usize> = (0..size)
                        .map(|_| self.dice.random_range(0..self.mine.len()))
                        .collect();
                    together.sort_unstable();
                    together.dedup();
                    self.put_together(&together).await;
                }
                _ => self.put(index).await,
            }
            let pause = PAUSE.mul_f64(self.dice.random());
            tokio::time::sleep(pause).await;
        }
    }

    async fn put(&mut self, index: usize) {
        let (started, body) = self.begin_put(index);
        match self.fhir.put(&body).await {
            Ok(written) => self.committed(&started, written.version),
            Err(_) => self.find_out(started).await,
        }
    }

    async fn delete(&mut self, index: usize) {
        let key = self.mine[index].subject.key.clone();
        let place = self.scene.begin(&key, None);
        let started = Started {
            index,
            place,
            state: None,
        };
        match self.fhir.delete(key.resource_type, &key.id).await {
            Ok(written) => self.committed(&started, written.version),
            Err(_) => self.find_out(started).await,
        }
    }

    /// In one transaction of HAPI.
    async fn put_together(&mut self, together: &[usize]) {
        let mut entries = Vec::new();
        let mut all = Vec::new();
        for index in together {
            let (started, body) = self.begin_put(*index);
            let key = &self.mine[*index].subject.key;
            let url = format!("{}/{}", key.resource_type, key.id);
            entries.push(json!({"resource": body, "request": {"method": "PUT", "url": url}}));
            all.push(started);
        }
        let answer = self.fhir.transaction(entries).await;
        let versions = answer.map(|bundle| versions_of_transaction(&bundle));
        match versions {
            Ok(versions) => {
                for (place, started) in all.iter().enumerate() {
                    self.committed(started, versions.get(place).copied().flatten());
                }
            }
            Err(_) => {
                for started in all {
                    self.find_out(started).await;
                }
            }
        }
    }

    fn begin_put(&mut self, index: usize) -> (Started, Value) {
        let Mine { subject, next, .. } = &mut self.mine[index];
        let sequence = *next;
        *next += 1;
        let body = self.scene.population.body(subject, sequence);
        let place = self.scene.begin(&subject.key, Some(sequence));
        let started = Started {
            index,
            place,
            state: Some(sequence),
        };
        (started, body)
    }

    fn committed(&mut self, started: &Started, version: Option<i64>) {
        let Mine { subject, exists, .. } = &mut self.mine[started.index];
        *exists = started.state.is_some();
        self.scene.committed(&subject.key, started.place, version);
    }

    /// HAPI did not answer well: what it has now says whether it did it. Its connections to PostgreSQL end with it, so what is not there then never comes.
    async fn find_out(&mut self, started: Started) {
        let key = self.mine[started.index].subject.key.clone();
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let Ok(found) = self.fhir.get(key.resource_type, &key.id).await else {
                // HAPI is away. At the end of the run nobody needs to know any more: the change stays open.
                if self.scene.is_writing() {
                    continue;
                }
                return;
            };
            let state: Option<u64> = found
                .as_ref()
                .and_then(|body| body["identifier"][0]["value"].as_str()?.parse().ok());
            let version = found
                .as_ref()
                .and_then(|body| body["meta"]["versionId"].as_str()?.parse().ok());
            if state == started.state {
                self.committed(&started, version);
            } else {
                self.scene.refused(&key, started.place);
            }
            return;
        }
    }
}
