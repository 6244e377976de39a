//! The load of a full or joining run (rule 12): its ranges, read from HAPI, evaluated and put into the staging tables by several workers at once.
//!
//! ```text
//! each worker:  next range ─► HAPI: COPY out, chunk by chunk ─► evaluate (blocking pool) ─► COPY in ─► done      chunk n+1 is read and n evaluated while n-1 is sent
//! ```
//!
//! Workers of other replicas may take ranges of the same load; what they are at is waited for. Memory: two chunks, the heads of a range and what is kept to be sent, for
//! each worker.

use std::{pin::pin, sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use tokio::task::JoinSet;
use view_store::{Evaluator, Load, LoadBatch, Loader, TypeViews};

use crate::{
    hapi::{Fetched, Hapi, IdRange, MetaRead},
    progress::Progress,
    run::RunError,
};

/// How often it is looked whether others have finished their ranges.
const OTHERS: Duration = Duration::from_millis(200);

/// What a load reads, and how it is told of.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) hapi: Hapi,
    pub(crate) resource_type: String,
    /// What the views look at of `meta`.
    pub(crate) meta: MetaRead,
    pub(crate) progress: Arc<Progress>,
}

impl Source {
    /// Of the type of these views.
    pub(crate) fn new(hapi: &Hapi, views: &TypeViews, progress: &Arc<Progress>) -> Self {
        Self {
            hapi: hapi.clone(),
            resource_type: views.resource_type.clone(),
            meta: meta_read(views),
            progress: progress.clone(),
        }
    }

    /// Loads ranges with so many workers: `limit` of them, or all until none is left, those of others included.
    pub(crate) async fn load(
        &self,
        load: &Load,
        workers: usize,
        limit: Option<usize>,
    ) -> Result<(), RunError> {
        loop {
            // Dropped, it ends its workers.
            let mut tasks = JoinSet::new();
            for _ in 0..workers.max(1) {
                let (source, load) = (self.clone(), load.clone());
                tasks.spawn(async move { source.work(&load, limit).await });
            }
            while let Some(done) = tasks.join_next().await {
                done.map_err(|_| RunError::Evaluation)??;
            }
            if limit.is_some() || load.unfinished().await? == 0 {
                return Ok(());
            }
            tokio::time::sleep(OTHERS).await;
        }
    }

    /// One worker.
    async fn work(&self, load: &Load, limit: Option<usize>) -> Result<(), RunError> {
        let mut loader = load.loader().await?;
        let mut evaluator = load.evaluator();
        let mut left = limit.unwrap_or(usize::MAX);
        while left > 0
            && let Some((from, to)) = loader.next().await?
        {
            evaluator = self
                .range(load, &mut loader, evaluator, IdRange { from, to })
                .await?;
            loader.finish().await?;
            left -= 1;
        }
        Ok(loader.end().await?)
    }

    async fn range(
        &self,
        load: &Load,
        loader: &mut Loader,
        evaluator: Evaluator,
        range: IdRange,
    ) -> Result<Evaluator, RunError> {
        let mut chunks = pin!(self.hapi.load(&self.resource_type, range, self.meta));
        let mut evaluating = Evaluating::Idle(Box::new(evaluator));
        while let Some(chunk) = chunks.try_next().await? {
            let (evaluator, done) = evaluating.end().await?;
            evaluating = Evaluating::begin(load, evaluator, chunk);
            self.put(loader, done).await?;
        }
        let (evaluator, done) = evaluating.end().await?;
        self.put(loader, done).await?;
        Ok(evaluator)
    }

    async fn put(&self, loader: &mut Loader, batch: Option<LoadBatch>) -> Result<(), RunError> {
        let Some(batch) = batch else { return Ok(()) };
        self.progress.add_loaded(&batch);
        Ok(loader.put(batch).await?)
    }
}

/// What views look at of `meta`, beside version and time.
pub(crate) fn meta_read(views: &TypeViews) -> MetaRead {
    let read = |member: &str| views.read(&["meta", member]);
    MetaRead {
        tags: ["tag", "profile", "security"].into_iter().any(read),
        source: read("source"),
    }
}

/// A chunk that is being evaluated on a thread of the blocking pool, which has the evaluator meanwhile.
enum Evaluating {
    Idle(Box<Evaluator>),
    Busy(tokio::task::JoinHandle<(Evaluator, LoadBatch)>),
}

impl Evaluating {
    fn begin(load: &Load, mut evaluator: Evaluator, chunk: Fetched) -> Self {
        let load = load.clone();
        Self::Busy(tokio::task::spawn_blocking(move || {
            let batch = load.evaluate(&mut evaluator, &chunk.states());
            (evaluator, batch)
        }))
    }

    async fn end(self) -> Result<(Evaluator, Option<LoadBatch>), RunError> {
        match self {
            Self::Idle(evaluator) => Ok((*evaluator, None)),
            Self::Busy(task) => {
                let (evaluator, batch) = task.await.map_err(|_| RunError::Evaluation)?;
                Ok((evaluator, Some(batch)))
            }
        }
    }
}
