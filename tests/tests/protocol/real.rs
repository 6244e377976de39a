//! The real parts: what a deed of the model is in terms of the three daemons' code.

use anyhow::{Context as _, ensure};
use api::{Code, ServiceError};
use batch_refresher::{
    changes::plan,
    hapi::{Hapi, HapiSettings, Partition, Zone},
    reading::Reading,
    run::{Ranges, RefreshRun, RunError, RunSettings, Step},
};
use chrono::{DateTime, TimeDelta, Utc};
use e2e::{merging::Direct, postgres::Postgres, redis::Redis, whole::Whole};
use fhir_core::{
    merge::{self, Mark, Position},
    resource::{Content, State},
    view::CompiledView,
};
use futures::TryStreamExt as _;
use serving_gateway::merge::Merger;
use speed_ingestor::{
    store::{SpeedStore, StoreSettings as SpeedSettings},
    tail::{ChangesReader, Tail},
};
use view_store::{RunKind, SlicePlan, StoreError, StoreSettings, ViewStore};

use super::{
    hapi::{PlayedHapi, at, delivered},
    model::{Deed, Holds, Kind},
    store::{self, Keyspace},
    views::{self, ViewsDb, definition},
};

const PATIENT: &str = "Patient";
/// The model's SKEW, a second a step.
const SKEW: TimeDelta = TimeDelta::seconds(1);
/// The model's MARGIN.
const MARGIN: TimeDelta = TimeDelta::seconds(3);

pub(crate) struct Real {
    played: PlayedHapi,
    views_db: ViewsDb,
    views: ViewStore,
    keyspace: Keyspace,
    speed: SpeedStore,
    reader: Reader,
    tails: [Tail<Reader>; 2],
    mergers: [Merger; 2],
    run: Option<RefreshRun>,
    zombie: Option<RefreshRun>,
    joined: bool,
    /// Questions that wait until a version is visible: id, version, asked.
    waiting: Vec<(String, i64, i64)>,
}

impl Real {
    pub(crate) async fn start(
        hapi_server: &Postgres,
        views_server: &Postgres,
        redis: &Redis,
    ) -> anyhow::Result<Self> {
        let mut played = PlayedHapi::create(hapi_server).await?;
        played.reset().await?;
        played.set_clock(1).await?;
        let hapi = Hapi::connect(HapiSettings {
            url: played.url().to_owned(),
            zone: Zone(chrono_tz::UTC),
            margin: MARGIN,
            partition: Partition::Only,
            max_connections: 8,
        })
        .await?;
        let url = views_server.create_database("views").await?;
        // The run lock is played: a process that has lost it without noticing is the model's zombie, and only the fence keeps it out.
        let no_run_lock = "CREATE SCHEMA played;
             CREATE FUNCTION played.pg_try_advisory_lock(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             CREATE FUNCTION played.pg_advisory_unlock(int, int) RETURNS boolean LANGUAGE sql AS 'SELECT true';
             ALTER DATABASE views SET search_path = played, pg_catalog, public";
        views_server.execute("views", no_run_lock).await?;
        let views = ViewStore::connect(StoreSettings {
            url: url.clone(),
            max_connections: 12,
            skew: SKEW,
        })
        .await?;
        views.migrate().await?;
        put(&views, "view_a", "urn:a").await?;
        let mut run = RefreshRun::start(&hapi, &views, PATIENT, RunKind::Join, run_settings())
            .await?
            .context("the type is free")?;
        while run.step().await? == Step::More {}
        run.end().await?;
        let speed = SpeedStore::open(SpeedSettings {
            time_to_live: TimeDelta::zero(),
            ..redis.store_settings()
        })?;
        Ok(Self {
            played,
            views_db: ViewsDb::open(&url).await?,
            keyspace: Keyspace::open(&redis.url()).await?,
            reader: Reader {
                hapi,
                views: views.clone(),
                now: at(0),
            },
            tails: [Tail::default(), Tail::default()],
            mergers: [
                Merger::new(views.clone(), PATIENT),
                Merger::new(views.clone(), PATIENT),
            ],
            run: None,
            zombie: None,
            joined: true,
            waiting: Vec::new(),
            views,
            speed,
        })
    }

    /// The world as the model begins.
    pub(crate) async fn reset(&mut self, margin: i64) -> anyhow::Result<()> {
        ensure!(
            TimeDelta::seconds(margin) == MARGIN,
            "the model's margin has changed"
        );
        (self.run, self.zombie) = (None, None);
        for (tail, merger) in self.tails.iter_mut().zip(&mut self.mergers) {
            tail.restart();
            merger.forget();
        }
        self.waiting.clear();
        self.played.reset().await?;
        if self.joined {
            match self.views.drop_view("view_b").await {
                Ok(()) | Err(StoreError::UnknownView { .. }) => self.joined = false,
                Err(error) => return Err(error.into()),
            }
        }
        self.views_db.reset().await?;
        self.keyspace.reset().await
    }

    /// Does what a step of the model does.
    pub(crate) async fn does(&mut self, now: i64, deed: &Deed) -> anyhow::Result<()> {
        match deed {
            Deed::Begin { tx, start } => self.played.begin(*tx, *start).await,
            Deed::Write { tx, savepoint, state } => self.played.write(*tx, *savepoint, state).await,
            Deed::Commit { tx } => self.played.finish(*tx, true).await,
            Deed::Abort { tx } => self.played.finish(*tx, false).await,
            Deed::HapiRestore { timeline, rows } => {
                self.played.restore(*timeline, rows.values().flatten()).await
            }
            Deed::Webhook { state, received } => {
                let body = Content::Body(delivered(state).into_bytes());
                let preview = State {
                    id: state.id.clone(),
                    version: state.version,
                    last_updated: at(state.updated),
                    content: body,
                };
                self.speed.offer_preview(PATIENT, &preview, at(*received)).await?;
                Ok(())
            }
            // A DELETE says nothing but that something was deleted: it wakes the tail, which the schedule does by itself.
            Deed::WebhookDelete => Ok(()),
            Deed::Tail { which, capped } => {
                self.played.set_clock(now).await?;
                self.reader.now = at(now);
                let window = capped.then_some(MARGIN);
                self.tails[*which]
                    .step(&self.reader, &self.speed, &[PATIENT.to_owned()], window, at(now))
                    .await?;
                Ok(())
            }
            Deed::TailRestart { which } => {
                self.tails[*which].restart();
                Ok(())
            }
            Deed::Merge { which, size } => {
                self.mergers[*which].step(&mut Direct(&self.speed), *size).await?;
                Ok(())
            }
            Deed::MergerForget { which } => {
                self.mergers[*which].forget();
                Ok(())
            }
            Deed::Refresh { begins } => self.refresh(now, *begins).await,
            Deed::RefresherCrash => {
                self.zombie = self.run.take();
                Ok(())
            }
            Deed::RefresherDrop => {
                self.run = None;
                Ok(())
            }
            Deed::Zombie => {
                if self.zombie.as_ref().is_some_and(RefreshRun::is_publishing)
                    && let Some(zombie) = &mut self.zombie
                {
                    match zombie.step().await {
                        Ok(Step::More) => {}
                        // A view has joined since: that run is newer, so this one is kept out either way.
                        Ok(_) | Err(RunError::Store(StoreError::ViewsChanged { .. })) => self.zombie = None,
                        Err(error) => return Err(error.into()),
                    }
                }
                Ok(())
            }
            Deed::AtLeast { id, version, asked } => {
                self.waiting.push((id.clone(), *version, *asked));
                Ok(())
            }
            Deed::Flush => self.views_db.flush().await,
            Deed::DbCrash => {
                self.mergers.iter_mut().for_each(Merger::forget);
                self.views_db.crash().await
            }
            Deed::StoreFsync => self.keyspace.fsync().await,
            Deed::StoreSave => self.keyspace.save().await,
            Deed::StoreCrash { to } => self.keyspace.crash(*to).await,
            Deed::Expire => {
                let published = self.views.type_state(PATIENT).await?.published;
                self.speed
                    .release(PATIENT, published.map_or(0, |p| p.n), at(now))
                    .await?;
                Ok(())
            }
        }
    }

    async fn refresh(&mut self, now: i64, begins: Option<Kind>) -> anyhow::Result<()> {
        self.played.set_clock(now).await?;
        if let Some(kind) = begins {
            let kind = match kind {
                Kind::Incremental => RunKind::Incremental,
                Kind::Full => RunKind::Full,
                Kind::Join => RunKind::Join,
            };
            if kind == RunKind::Join {
                put(&self.views, "view_b", "urn:b").await?;
                self.joined = true;
            }
            let run =
                RefreshRun::start(&self.reader.hapi, &self.views, PATIENT, kind, run_settings()).await?;
            let run = run.context("another run of the type is under way")?;
            ensure!(
                run.kind() == kind,
                "a run of kind {:?} has begun, the model's is {kind:?}",
                run.kind()
            );
            self.run = Some(run);
        }
        let mut run = self.run.take().context("no run is under way")?;
        if run.step().await? == Step::More {
            self.run = Some(run);
            return Ok(());
        }
        Ok(run.end().await?)
    }

    /// What lies in the views' database and in Redis is what the model holds.
    pub(crate) async fn compare(&mut self, holds: &Holds) -> anyhow::Result<()> {
        let (seen, expected) = (self.views_db.look().await?, views::Seen::expected(holds));
        ensure!(
            seen == expected,
            "the views' database differs\n real  {seen:?}\n model {expected:?}"
        );
        let (seen, expected) = (self.keyspace.look().await?, store::Seen::expected(holds));
        ensure!(
            seen == expected,
            "Redis differs\n real  {seen:?}\n model {expected:?}"
        );
        let mut still = Vec::new();
        for (id, version, asked) in self.waiting.drain(..) {
            let (known, freshness) = self.views.known_version(PATIENT, &id).await?;
            if !merge::is_visible(known, version, freshness.merged(), Some(at(asked))) {
                still.push((id, version, asked));
            }
        }
        ensure!(
            still == holds.waiting,
            "questions that wait differ\n real  {still:?}\n model {:?}",
            holds.waiting
        );
        self.waiting = still;
        Ok(())
    }
}

async fn put(views: &ViewStore, name: &str, url: &str) -> anyhow::Result<()> {
    let definition = definition(name, url);
    views
        .put_view(&CompiledView::from_json(&definition)?, &definition, false)
        .await?;
    Ok(())
}

fn run_settings() -> RunSettings {
    RunSettings {
        ranges: Ranges::At(vec![1_000_000]),
        workers: 1,
        // The model's runs begin anew.
        resume: false,
        slice: SlicePlan {
            resources: 1,
            unchanged_too: true,
        },
    }
}

/// The batch layer's readings, without the gRPC in between, so that clock and snapshot are two steps; one state a part, as the model writes them.
struct Reader {
    hapi: Hapi,
    views: ViewStore,
    /// The time of the step: a capped window is reckoned from it.
    now: DateTime<Utc>,
}

impl ChangesReader for Reader {
    type Begun = Reading;
    type Opened = Whole;

    async fn begin(&self) -> Result<Reading, ServiceError> {
        Reading::begin(&self.hapi)
            .await
            .map_err(|e| ServiceError::internal(&e))
    }

    async fn open(
        &self,
        begun: Reading,
        since: Vec<(String, Option<Position>)>,
        window: Option<TimeDelta>,
    ) -> Result<Option<Whole>, ServiceError> {
        let floor = window.map(|window| self.now - window);
        let mut open = begun
            .open(&self.views, &[PATIENT])
            .await
            .map_err(|e| ServiceError::internal(&e))?;
        let drawn = open
            .types()
            .first()
            .cloned()
            .ok_or_else(|| ServiceError::new(Code::Internal, "no type"))?;
        let held = since.into_iter().next().and_then(|(_, held)| held);
        let plan = plan(&mut open, held, drawn, floor, 1_000)
            .await
            .map_err(|e| ServiceError::internal(&e))?;
        if plan.reading.full_refresh_needed {
            return Ok(None);
        }
        let mark = Mark {
            n: open.n(),
            as_of: open.as_of(),
        };
        let states: Vec<Vec<State>> = open
            .states(PATIENT, plan.ids)
            .try_collect()
            .await
            .map_err(|e| ServiceError::internal(&e))?;
        let states: Vec<State> = states.concat();
        Ok(Some(Whole {
            resource_type: PATIENT,
            mark,
            states: states.into_iter(),
            end: vec![plan.reading],
        }))
    }
}
