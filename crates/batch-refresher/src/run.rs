//! A run of the batch for one type: read, evaluate, stage, publish (rules 11 to 14), as an explicit machine.
//!
//! ```text
//! full, join:   LoadBegin ─► LoadOpen ─► LoadRange … ─┐
//! incremental:                                        ├─► Begin ─► CatchUp ─► Slices …        (join: all of it in one step, under the type's lock)
//! ```
//!
//! One call of [`RefreshRun::step`] is one step of the model (but for `LoadRange`, which loads as many ranges as the settings say); nothing outside
//! HAPI's and the views' PostgreSQL remembers a run, so dropping it at any point is a crash that leaves what was shown before.

use std::{pin::pin, sync::Arc};

use fhir_core::{merge::Position, resource::State};
use futures::{FutureExt as _, Stream, TryStreamExt as _};
use view_store::{
    EvaluatedState, Load, RangeBounds, RowsOf, RunKind, SliceOutcome, SlicePlan, StoreError, TypeViews,
    ViewStore,
};

use crate::{
    hapi::{Hapi, HapiError, IdRange, body_bytes},
    load::Source,
    progress::{Progress, RunPhase},
    reading::{Reading, ReadingError},
    reconciliation::{self, Differences},
};

/// How a run loads and publishes.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// How a full run cuts the type.
    pub ranges: Ranges,
    /// How many ranges are loaded at the same time.
    pub workers: usize,
    /// Whether a full or joining run goes on with a load that was broken off.
    pub resume: bool,
    /// How slices are cut.
    pub slice: SlicePlan,
}

/// Ranges of a full run.
#[derive(Debug, Clone)]
pub enum Ranges {
    /// Of about so many resources; all are loaded in one step.
    Of(u64),
    /// Cut before these row numbers of HAPI; one a step.
    At(Vec<i64>),
}

/// Why a run failed. What was shown before is still shown.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// HAPI's side.
    #[error(transparent)]
    Hapi(#[from] HapiError),
    /// The views' side.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Evaluation was broken off.
    #[error("evaluating was broken off")]
    Evaluation,
    /// A step was asked of a run that has ended.
    #[error("the run has ended")]
    Ended,
}

impl From<ReadingError> for RunError {
    fn from(error: ReadingError) -> Self {
        match error {
            ReadingError::Hapi(e) => Self::Hapi(e),
            ReadingError::Store(e) => Self::Store(e),
        }
    }
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Go on.
    More,
    /// Published: the watermark has moved.
    Finished,
    /// A newer run has published (rule 11): this one has ended.
    Fenced,
    /// What has changed since the position that the run goes on from cannot be told: HAPI's database is on another timeline (rule 3), or dates its versions
    /// otherwise. The run has ended; a full run must come.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    LoadBegin,
    LoadOpen,
    LoadRange,
    Begin,
    CatchUp,
    Slices,
    Ended,
}

/// A run.
pub struct RefreshRun {
    hapi: Hapi,
    store: ViewStore,
    settings: RunSettings,
    kind: RunKind,
    phase: Phase,
    run: view_store::Run,
    views: Arc<TypeViews>,
    reading: Option<Reading>,
    /// Position before the load of a full run: the catch-up goes on from it.
    first: Option<Position>,
    /// Position of the reading that is published.
    position: Option<Position>,
    progress: Arc<Progress>,
}

impl RefreshRun {
    /// Begins a run of what `kind` asks for, or of what must come first: a full one where the watermark is of another timeline of HAPI (or there
    /// is none), a join where the type has no materialised view yet, an incremental one where nothing waits to join.
    ///
    /// `None`: another run of the type is under way.
    pub async fn start(
        hapi: &Hapi,
        store: &ViewStore,
        resource_type: &str,
        kind: RunKind,
        settings: RunSettings,
    ) -> Result<Option<Self>, RunError> {
        let kind = fitting_kind(hapi, store, resource_type, kind).await?;
        let Some(run) = store.begin_run(resource_type, kind, settings.resume).await? else {
            return Ok(None);
        };
        let views = Arc::new(run.views().clone());
        Ok(Some(Self {
            hapi: hapi.clone(),
            store: store.clone(),
            settings,
            kind,
            phase: if kind == RunKind::Incremental {
                Phase::Begin
            } else {
                Phase::LoadBegin
            },
            run,
            views,
            reading: None,
            first: None,
            position: None,
            progress: Arc::default(),
        }))
    }

    /// What the run does, which may be more than was asked for.
    pub fn kind(&self) -> RunKind {
        self.kind
    }

    /// Counters.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// What a full or joining run puts its ranges into: others may put some in too.
    pub fn load(&self) -> Option<&Load> {
        self.run.load()
    }

    /// The position that is being published, once it is known.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// After `Finished` of a run that compared everything: see [`reconciliation::differences`].
    pub async fn differences(&mut self, before: &Position) -> Result<Option<Differences>, RunError> {
        reconciliation::differences(&self.hapi, &mut self.run, before).await
    }

    /// Whether the next step publishes a slice: up to there nothing that anyone sees has changed.
    pub fn is_publishing(&self) -> bool {
        self.phase == Phase::Slices
    }

    /// The next step. After `Finished`, `Fenced`, `Lost` or an error the run has ended: drop it.
    pub async fn step(&mut self) -> Result<Step, RunError> {
        // A step that fails ends the run: half of a step cannot be done again.
        let phase = std::mem::replace(&mut self.phase, Phase::Ended);
        let (step, next) = match phase {
            Phase::LoadBegin => self.load_begin().await?,
            Phase::LoadOpen => self.load_open().await?,
            Phase::LoadRange => self.load_range().await?,
            Phase::Begin => self.begin().await?,
            Phase::CatchUp => self.catch_up().await?,
            Phase::Slices => self.slice().await?,
            Phase::Ended => return Err(RunError::Ended),
        };
        self.phase = next;
        if step == Step::Finished {
            self.progress.set_phase(RunPhase::Done);
        }
        Ok(step)
    }

    /// Gives the run lock back.
    pub async fn end(self) -> Result<(), RunError> {
        Ok(self.run.end().await?)
    }

    /// Gives the run lock back after an error, or in the midst: what was loaded is left for the next run.
    pub async fn leave(self) {
        self.run.leave().await;
    }

    async fn load_begin(&mut self) -> Result<(Step, Phase), RunError> {
        self.progress.set_phase(RunPhase::Loading);
        if let (Some(first), Some(load)) = (self.run.first(), self.run.load()) {
            if first.timeline == self.hapi.timeline().await? {
                self.first = Some(first.clone());
                self.progress
                    .set_total(self.hapi.about_how_many(&self.views.resource_type).await?);
                self.progress.add_read(load.done().await?, 0);
                return Ok((Step::More, Phase::LoadRange));
            }
            return Ok((Step::Lost, Phase::Ended));
        }
        self.reading = Some(Reading::begin(&self.hapi).await?);
        Ok((Step::More, Phase::LoadOpen))
    }

    /// The first position: everything is loaded in snapshots later than this one.
    async fn load_open(&mut self) -> Result<(Step, Phase), RunError> {
        let reading = self.reading.take().ok_or(RunError::Ended)?;
        let resource_type = &self.views.resource_type;
        let open = reading.open(&self.store, &[resource_type]).await?;
        let first = open.position();
        drop(open);
        let ranges = match &self.settings.ranges {
            Ranges::Of(size) => {
                let count = self.hapi.about_how_many(resource_type).await?;
                self.progress.set_total(count);
                self.hapi.ranges(resource_type, count, *size).await?
            }
            Ranges::At(bounds) => IdRange::split_at(bounds),
        };
        let ranges: Vec<RangeBounds> = ranges.iter().map(|range| (range.from, range.to)).collect();
        self.run.note_first(&first, &ranges).await?;
        self.first = Some(first);
        Ok((Step::More, Phase::LoadRange))
    }

    async fn load_range(&mut self) -> Result<(Step, Phase), RunError> {
        let load = self.run.load().ok_or(RunError::Ended)?;
        let source = Source::new(&self.hapi, &self.views, &self.progress);
        match self.settings.ranges {
            Ranges::Of(_) => source.load(load, self.settings.workers, None).await?,
            Ranges::At(_) => {
                source.load(load, 1, Some(1)).await?;
                if load.unfinished().await? > 0 {
                    return Ok((Step::More, Phase::LoadRange));
                }
            }
        }
        self.run.finish_load().await?;
        Ok((Step::More, Phase::Begin))
    }

    async fn begin(&mut self) -> Result<(Step, Phase), RunError> {
        self.progress.set_phase(RunPhase::CatchingUp);
        if self.kind == RunKind::Join {
            // Rule 14: the last reading and all of its publication under the type's lock, so nothing can become live in between.
            self.run.lock_for_join().await?;
        }
        self.reading = Some(Reading::begin(&self.hapi).await?);
        if self.kind != RunKind::Join {
            return Ok((Step::More, Phase::CatchUp));
        }
        match self.catch_up().await? {
            (Step::More, _) => self.join().await,
            lost => Ok(lost),
        }
    }

    /// What has changed since the first position (full) or the watermark (incremental), and what is live.
    async fn catch_up(&mut self) -> Result<(Step, Phase), RunError> {
        let reading = self.reading.take().ok_or(RunError::Ended)?;
        let views = self.views.clone();
        let resource_type = views.resource_type.as_str();
        let mut open = reading.open(&self.store, &[resource_type]).await?;
        let published = open.types().first().and_then(|t| t.published.clone());
        let Some(since) = self
            .first
            .clone()
            .or(published)
            .filter(|since| open.goes_on_from(since))
        else {
            return Ok((Step::Lost, Phase::Ended));
        };
        let mut ids = open.changed_since(resource_type, &since, None, None).await?;
        let none_has_a_right_date = ids.is_empty();
        ids.extend(self.run.known_ids().await?);
        let misdated = open.misdated_since(resource_type, &since).await?;
        let incremental = self.kind == RunKind::Incremental;
        if incremental && none_has_a_right_date {
            if let Some(error) = misdated.wrong_zone(&self.hapi, &since, open.as_of()) {
                return Err(error.into());
            }
            if misdated.may_be_more(&since, open.as_of()) {
                tracing::warn!(
                    resource_type,
                    "all new versions are dated before the last refresh: everything is read anew; is hapi.time_zone the zone of HAPI's JVM?"
                );
                return Ok((Step::Lost, Phase::Ended));
            }
        }
        if incremental && !misdated.ids.is_empty() {
            tracing::warn!(
                resource_type,
                versions = misdated.ids.len(),
                "versions are dated further before their transaction than hapi.margin_seconds allows; those that were seen are taken in, a reconciliation \
                 finds the others: a larger margin is called for"
            );
        }
        // Of a full run: those that were committed when the load had passed them.
        ids.extend(misdated.ids);
        if incremental {
            ids.sort_unstable();
            ids.dedup();
            self.progress.set_total(ids.len() as u64);
        }
        let as_of = open.as_of();
        self.position = Some(open.position());
        let states = open.states(resource_type, ids);
        stage_all(&mut self.run, &views, &self.progress, states).await?;
        if self.first.is_some() {
            self.run.stage_gone(as_of).await?;
        }
        self.progress.set_phase(RunPhase::Publishing);
        Ok((Step::More, Phase::Slices))
    }

    async fn slice(&mut self) -> Result<(Step, Phase), RunError> {
        let position = self.position.as_ref().ok_or(RunError::Ended)?;
        let outcome = self.run.publish_slice(position, self.settings.slice).await?;
        Ok(self.published(outcome))
    }

    async fn join(&mut self) -> Result<(Step, Phase), RunError> {
        let position = self.position.as_ref().ok_or(RunError::Ended)?;
        let outcome = self.run.join(position).await?;
        Ok(self.published(outcome))
    }

    fn published(&self, outcome: SliceOutcome) -> (Step, Phase) {
        self.progress.set_published(self.run.progress().1);
        match outcome {
            SliceOutcome::More => (Step::More, Phase::Slices),
            SliceOutcome::Finished => (Step::Finished, Phase::Ended),
            SliceOutcome::Fenced => (Step::Fenced, Phase::Ended),
        }
    }
}

/// Helps the run of the type that is under way on another replica: takes ranges of its load until none is left. Nothing where there is no load, or
/// where this process would load something else.
pub async fn share(
    hapi: &Hapi,
    store: &ViewStore,
    resource_type: &str,
    workers: usize,
) -> Result<(), RunError> {
    let Some((load, first)) = store.shared_load(resource_type).await? else {
        return Ok(());
    };
    if first.timeline != hapi.timeline().await? {
        return Ok(());
    }
    // The run counts what is done, whoever did it.
    let source = Source::new(hapi, load.views(), &Arc::default());
    source.load(&load, workers, None).await
}

async fn fitting_kind(
    hapi: &Hapi,
    store: &ViewStore,
    resource_type: &str,
    asked: RunKind,
) -> Result<RunKind, RunError> {
    let published = store.type_state(resource_type).await?.published;
    let foreign = match published {
        Some(published) => published.timeline != hapi.timeline().await?,
        None => true,
    };
    if asked != RunKind::Join && !foreign {
        return Ok(asked);
    }
    let views = store.views().await?;
    let materialised = views
        .iter()
        .any(|v| v.resource_type == resource_type && v.state.is_materialised());
    // A joining run reads everything too; but what is materialised is brought onto the new timeline first, as a run of its own.
    Ok(match (foreign, materialised) {
        (true, true) => RunKind::Full,
        (true, false) => RunKind::Join,
        (false, _) if store.needs_join(resource_type).await? => RunKind::Join,
        (false, _) => RunKind::Incremental,
    })
}

/// Evaluates what comes, chunk by chunk, and stages it: one chunk is evaluated while the one before is staged, so memory is bounded by two.
async fn stage_all<S>(
    run: &mut view_store::Run,
    views: &Arc<TypeViews>,
    progress: &Progress,
    states: S,
) -> Result<(), RunError>
where
    S: Stream<Item = Result<Vec<State>, HapiError>> + Send,
{
    let mut states = pin!(states);
    let mut evaluating: Option<tokio::task::JoinHandle<Vec<EvaluatedState>>> = None;
    loop {
        let chunk = states.try_next().await?;
        let evaluated = match evaluating.take() {
            Some(task) => Some(task.await.map_err(|_| RunError::Evaluation)?),
            None => None,
        };
        let more = chunk.is_some();
        if let Some(chunk) = &chunk {
            progress.add_bytes(chunk.iter().map(|state| body_bytes(state) as u64).sum());
        }
        evaluating = chunk.map(|chunk| {
            let views = views.clone();
            tokio::task::spawn_blocking(move || view_store::evaluate(&views, &chunk))
        });
        if let Some(evaluated) = evaluated {
            let failed = evaluated
                .iter()
                .filter(|state| {
                    state
                        .rows
                        .iter()
                        .any(|rows| matches!(rows, RowsOf::Failed { .. }))
                })
                .count();
            // Boxed: what it holds is Send, which the compiler sees only here.
            run.stage(&evaluated).boxed().await?;
            progress.add_read(evaluated.len() as u64, failed as u64);
            progress.add_rows(evaluated.iter().flat_map(|state| &state.rows).map(rows).sum());
        }
        if !more {
            return Ok(());
        }
    }
}

/// Rows that were made of a state for a view.
fn rows(of: &RowsOf) -> u64 {
    match of {
        RowsOf::Encoded { count, .. } => u64::from(*count),
        RowsOf::Failed { .. } => 0,
    }
}
