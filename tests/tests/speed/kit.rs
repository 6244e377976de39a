//! What these tests share: states, a private Redis with a store over it, a reader of HAPI that says what it is told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use api::{ServiceError, batch::TypeReading, speed::Reading};
use chrono::{DateTime, TimeDelta, Utc};
use daemon::{Clock, ManualClock, Secret, Shutdown, SystemClock, tls::Acceptor};
use e2e::{redis::Redis, whole::Whole};
use fhir_core::{
    merge::{Mark, Position},
    resource::{Content, State},
};
use speed_ingestor::{
    accepted::Accepted,
    auth::SharedSecret,
    body::{Bodies, Limits},
    connections::{ConnectionLimits, Listening},
    gate::Gate,
    hapi::Hapi,
    measures::Measures,
    needed::Needed,
    put::Taking,
    rounds::{RoundSettings, Rounds, TailState},
    store::{Recent, SpeedStore},
    tail::{ChangesReader, RereadsFrom},
    webhook::Webhook,
};

/// Second `seconds` of the tests' own time.
pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

pub(crate) fn state(id: &str, version: i64) -> State {
    let body =
        format!(r#"{{"resourceType":"Patient","id":"{id}","meta":{{"versionId":"{version}"}},"x":1.50}}"#);
    State {
        id: id.into(),
        version,
        last_updated: at(version),
        content: Content::Body(body.into_bytes()),
    }
}

pub(crate) fn deleted(id: &str, version: i64) -> State {
    State {
        content: Content::Deleted,
        ..state(id, version)
    }
}

pub(crate) fn reading(state: State, n: i64) -> Reading {
    Reading {
        state,
        n,
        as_of: at(n),
    }
}

pub(crate) fn position(n: i64) -> Position {
    Position {
        n,
        as_of: at(n),
        bound: at(n - 90),
        xmin: 700,
        timeline: "7300/1".into(),
    }
}

pub(crate) async fn redis() -> (Redis, SpeedStore) {
    let redis = Redis::start().await.unwrap();
    let store = store(&redis);
    (redis, store)
}

pub(crate) fn store(redis: &Redis) -> SpeedStore {
    SpeedStore::open(redis.store_settings()).unwrap()
}

/// All readings later than a cursor, as (id, version, n).
pub(crate) async fn held(store: &SpeedStore, cursor: i64) -> Vec<(String, i64, i64)> {
    let mut read = store.read_changes("Patient", cursor).await.unwrap();
    let mut all = Vec::new();
    while let Some(readings) = store.next_readings(&mut read).await.unwrap() {
        all.extend(readings.into_iter().map(|r| (r.state.id, r.state.version, r.n)));
    }
    all
}

/// All that was written lately, the newest first.
pub(crate) async fn recent(store: &SpeedStore, resource_type: &str, since: DateTime<Utc>) -> Vec<Recent> {
    let mut walk = store.walk_recent(resource_type, since).await.unwrap();
    let mut all = Vec::new();
    while let Some(page) = store.next_recent(&mut walk).await.unwrap() {
        all.extend(page);
    }
    all.sort_by(|a, b| (b.state.last_updated, &a.state.id).cmp(&(a.state.last_updated, &b.state.id)));
    all
}

/// Says what it is told: the next reading's number, states and what may be concluded.
#[derive(Clone, Default)]
pub(crate) struct FakeHapi(Arc<Mutex<Told>>);

#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one fault that a test can switch on"
)]
struct Told {
    n: i64,
    states: Vec<State>,
    failing: bool,
    failing_sweeps: bool,
    windows: Vec<Option<TimeDelta>>,
    concludes_nothing: bool,
    full_refresh_needed: bool,
    published_n: i64,
    asked: Vec<Vec<(String, Option<Position>)>>,
    since_then: Vec<State>,
    reread: Vec<Vec<(String, Position)>>,
}

impl FakeHapi {
    /// What the next readings find.
    pub(crate) fn finds(&self, states: &[State]) {
        self.0.lock().unwrap().states = states.to_vec();
    }
    pub(crate) fn fails(&self, failing: bool) {
        self.0.lock().unwrap().failing = failing;
    }
    /// Readings without a window fail.
    pub(crate) fn fails_sweeps(&self) {
        self.0.lock().unwrap().failing_sweeps = true;
    }
    /// The windows that were asked for, also of readings that failed.
    pub(crate) fn windows(&self) -> Vec<Option<TimeDelta>> {
        self.0.lock().unwrap().windows.clone()
    }
    /// The window is capped, so nothing may be concluded.
    pub(crate) fn concludes_nothing(&self, nothing: bool) {
        self.0.lock().unwrap().concludes_nothing = nothing;
    }
    pub(crate) fn needs_full_refresh(&self) {
        self.0.lock().unwrap().full_refresh_needed = true;
    }
    pub(crate) fn published(&self, n: i64) {
        self.0.lock().unwrap().published_n = n;
    }
    /// The next reading's number is the one after this.
    pub(crate) fn begins_at(&self, n: i64) {
        self.0.lock().unwrap().n = n;
    }
    /// From where the last reading was to go on.
    pub(crate) fn asked(&self) -> Vec<(String, Option<Position>)> {
        self.0.lock().unwrap().asked.last().cloned().unwrap()
    }
    /// What readings from an earlier position find.
    pub(crate) fn finds_when_read_again(&self, states: &[State]) {
        self.0.lock().unwrap().since_then = states.to_vec();
    }
    /// From where it was read again, each time.
    pub(crate) fn reread(&self) -> Vec<Vec<(String, Position)>> {
        self.0.lock().unwrap().reread.clone()
    }
    /// How many readings were opened.
    pub(crate) fn readings(&self) -> usize {
        self.0.lock().unwrap().asked.len()
    }
}

impl ChangesReader for FakeHapi {
    type Begun = ();
    type Opened = Whole;

    async fn begin(&self) -> Result<(), ServiceError> {
        Ok(())
    }

    async fn open(
        &self,
        (): (),
        since: Vec<(String, Option<Position>)>,
        window: Option<TimeDelta>,
    ) -> Result<Option<Whole>, ServiceError> {
        let mut told = self.0.lock().unwrap();
        told.windows.push(window);
        if told.failing || (told.failing_sweeps && window.is_none()) {
            return Err(ServiceError::new(
                api::Code::Unavailable,
                "hapi's database is away",
            ));
        }
        told.n += 1;
        let n = told.n;
        let concluded = (!told.concludes_nothing && !told.full_refresh_needed).then(|| position(n));
        let end = since.iter().map(|(resource_type, _)| TypeReading {
            resource_type: resource_type.clone(),
            position: concluded.clone(),
            full_refresh_needed: told.full_refresh_needed,
            published_n: told.published_n,
            refresh_nudged: false,
        });
        let end = end.collect();
        told.asked.push(since);
        Ok(Some(Whole {
            mark: Mark { n, as_of: at(n) },
            resource_type: "Patient",
            states: told.states.clone().into_iter(),
            end,
        }))
    }
}

impl RereadsFrom for FakeHapi {
    async fn open_from(
        &self,
        begun: (),
        since: Vec<(String, Position)>,
    ) -> Result<Option<Whole>, ServiceError> {
        self.0.lock().unwrap().reread.push(since.clone());
        let since = since.into_iter().map(|(of, position)| (of, Some(position)));
        let opened = self.open(begun, since.collect(), None).await?;
        let states = self.0.lock().unwrap().since_then.clone();
        Ok(opened.map(|opened| Whole {
            states: states.into_iter(),
            ..opened
        }))
    }
}

/// The parts of the ingestor around a real Redis, with a tail that reads what it is told.
pub(crate) struct Ingestor {
    pub(crate) redis: Redis,
    pub(crate) store: SpeedStore,
    pub(crate) hapi: FakeHapi,
    pub(crate) needed: Needed,
    pub(crate) tail: TailState,
    pub(crate) accepted: Accepted,
    pub(crate) taking: Taking,
    pub(crate) shutdown: Shutdown,
    /// Base of the webhook.
    pub(crate) base: String,
}

/// Rounds of the tail over this store.
pub(crate) fn rounds(
    hapi: &FakeHapi,
    store: &SpeedStore,
    needed: &Needed,
    state: &TailState,
) -> Rounds<FakeHapi> {
    Rounds {
        reader: hapi.clone(),
        store: store.clone(),
        needed: needed.clone(),
        state: state.clone(),
        accepted: Accepted::default(),
        measures: Measures::default(),
        clock: Arc::new(SystemClock),
        settings: RoundSettings {
            interval: Duration::from_millis(200),
            window: TimeDelta::minutes(10),
            sweep: Duration::from_secs(30),
        },
    }
}

/// Bounds of a request, as the default configuration has them.
pub(crate) const LIMITS: Limits = Limits {
    body_bytes: 16 << 20,
    depth: 200,
    body_time: Duration::from_secs(10),
    memory_bytes: 128 << 20,
    in_flight: 256,
};

pub(crate) use e2e::house::SECRET;

/// A webhook over this store, with an open gate.
pub(crate) fn webhook(
    store: &SpeedStore,
    tail: &TailState,
    needed: &Needed,
    clock: Arc<dyn Clock>,
) -> Webhook {
    let gate = Gate::closed("not checked");
    gate.open();
    Webhook {
        store: store.clone(),
        tail: tail.clone(),
        needed: needed.clone(),
        gate,
        secret: SharedSecret::new(reqwest::header::AUTHORIZATION, &Secret::new(SECRET), &[]),
        bodies: Bodies::new(LIMITS),
        hapi: None,
        accepted: Accepted::default(),
        measures: Measures::default(),
        clock,
    }
}

/// Serves it until the stop; its base.
pub(crate) async fn serve(webhook: Webhook, shutdown: &Shutdown) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let listening = Listening {
        listener,
        tls: Acceptor::plain(),
        limits: ConnectionLimits {
            most: 1024,
            head_time: Duration::from_secs(10),
            allowed: Vec::new(),
        },
    };
    let routes = speed_ingestor::router(webhook);
    let serving =
        speed_ingestor::connections::serve(listening, routes, Measures::default(), shutdown.clone());
    shutdown.spawn(async move { serving.await.unwrap() });
    base
}

/// A tail that is well up to `until` by the webhook's clock, and does nothing: a test takes the steps of its own one.
pub(crate) async fn well(store: &SpeedStore, until: DateTime<Utc>) -> TailState {
    let (tail, nothing, stop) = (TailState::default(), Needed::default(), Shutdown::new());
    nothing.set(Vec::new());
    let rounds = Rounds {
        clock: Arc::new(ManualClock::new(until)),
        ..rounds(&FakeHapi::default(), store, &nothing, &tail)
    };
    stop.spawn(rounds.run(stop.clone()));
    tail.finish_one().await;
    stop.stop();
    tail
}

impl Ingestor {
    pub(crate) async fn start() -> Self {
        Self::start_with(LIMITS).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        Self::start_over(redis().await, limits, None).await
    }

    /// Over a Redis of the test's own, with HAPI's REST or without.
    pub(crate) async fn start_over(
        (redis, store): (Redis, SpeedStore),
        limits: Limits,
        rest: Option<Hapi>,
    ) -> Self {
        let (needed, tail, accepted) = (Needed::default(), TailState::default(), Accepted::default());
        needed.set(vec!["Patient".into(), "Condition".into(), "Observation".into()]);
        let (hapi, shutdown, measures) = (FakeHapi::default(), Shutdown::new(), Measures::default());
        let rounds = Rounds {
            measures: measures.clone(),
            accepted: accepted.clone(),
            ..rounds(&hapi, &store, &needed, &tail)
        };
        shutdown.spawn(rounds.run(shutdown.clone()));
        let webhook = Webhook {
            bodies: Bodies::new(limits),
            hapi: rest,
            accepted: accepted.clone(),
            measures,
            ..webhook(&store, &tail, &needed, Arc::new(SystemClock))
        };
        let taking = Taking {
            gate: webhook.gate.clone(),
            limits,
            measures: webhook.measures.clone(),
        };
        let base = serve(webhook, &shutdown).await;
        tail.finish_one().await;
        Self {
            redis,
            store,
            hapi,
            needed,
            tail,
            accepted,
            taking,
            shutdown,
            base,
        }
    }

    /// All keys of Redis and what they hold, but for dead letters and the mark of the running tail.
    pub(crate) async fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let client = redis::Client::open(self.redis.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut connection)
            .await
            .unwrap();
        let mut contents = BTreeMap::new();
        for key in keys
            .into_iter()
            .filter(|key| !matches!(key.as_str(), "fhir:dead" | "fhir:mark"))
        {
            let dump: Option<Vec<u8>> = redis::cmd("DUMP")
                .arg(&key)
                .query_async(&mut connection)
                .await
                .unwrap();
            contents.insert(key, dump.unwrap_or_default());
        }
        contents
    }
}

impl Drop for Ingestor {
    fn drop(&mut self) {
        self.shutdown.stop();
    }
}

/// A client of HTTP.
pub(crate) fn http() -> reqwest::Client {
    // Another test of this program may have been first.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .timeout(Duration::from_secs(30))
        .build()
        .unwrap()
}
