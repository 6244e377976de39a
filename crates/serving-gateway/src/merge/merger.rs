//! One type's merger: a state machine whose steps are the model's (rule 8).
//!
//! *Read*: the cursor as the views' database holds it, then one answer of the speed store: readings numbered above the cursor, the previews
//! (taken: they are handed out once), and the mark. *Commit*, page by page: one transaction each; the last one carries the previews and moves the
//! cursor to the mark. A page is applied only while the cursor is as it was read, so any number of mergers may run: one that was
//! overtaken forgets its answer and reads again. A crash is dropping the value: numbers make pages idempotent, and previews that are lost are
//! followed by the reading that confirms them.

use std::sync::Arc;

use api::speed::{Preview, Reading, TypeChanges};
use fhir_core::{merge::Mark, resource::State};
use view_store::{
    AppliedPage, ApplySession, Cursor, EvaluatedState, LastPage, ReadingAt, ReceivedPreview, RowsOf,
    StoreError, TypeViews, ViewStore, evaluate,
};

/// Bodies of more bytes than this are evaluated on the blocking pool: at some 100 MB/s a page would hold up a thread of the runtime for milliseconds.
const INLINE_BYTES: usize = 128 * 1024;

/// How often views may change under one page before the step gives up.
const RELOADS: usize = 20;

/// Where a merger gets its answers from: the gRPC stream in the daemon, the speed store itself in the property test.
pub trait ChangesSource {
    /// Readings of the type with n above `after`, previews (taken) and mark, as one atomic answer.
    fn changes(
        &mut self,
        resource_type: &str,
        after: i64,
    ) -> impl Future<Output = Result<TypeChanges, MergeError>> + Send;
}

/// Why a step failed. The merger has forgotten its answer; the next step reads again.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The views' database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The speed store, or the way to it.
    #[error("the speed layer cannot be asked: {0}")]
    Source(String),
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// The speed store has nothing later than the cursor.
    Nothing,
    /// An answer was read; the next step commits its first page.
    Read,
    /// A page was committed; there are more.
    Page(AppliedPage),
    /// The last page was committed; the cursor stands at the mark.
    Last(AppliedPage),
    /// The cursor had moved: the answer was forgotten.
    Overtaken,
}

/// An answer that is being applied, over one connection: after a crash of the views' database pages that were committed
/// asynchronously may be gone while the cursor is as it was, so the rest must not follow.
struct Answer {
    session: ApplySession,
    start: Cursor,
    /// Not applied yet; in pages from the front.
    readings: std::vec::IntoIter<Reading>,
    previews: Vec<Preview>,
    mark: Option<Mark>,
    /// PostgreSQL has refused a page of this answer: go on with single resources, to find the one.
    careful: bool,
}

/// Applies the changes of one resource type.
pub struct Merger {
    store: ViewStore,
    resource_type: String,
    views: Option<Arc<TypeViews>>,
    answer: Option<Answer>,
}

impl Merger {
    /// A merger that has read nothing yet.
    pub fn new(store: ViewStore, resource_type: impl Into<String>) -> Self {
        Self {
            store,
            resource_type: resource_type.into(),
            views: None,
            answer: None,
        }
    }

    /// Whose changes it applies.
    pub(super) fn resource_type(&self) -> &str {
        &self.resource_type
    }

    /// One step of the model: read, or commit a page of `size` readings.
    pub async fn step(
        &mut self,
        source: &mut impl ChangesSource,
        size: usize,
    ) -> Result<Stepped, MergeError> {
        if self.answer.is_some() {
            return self.commit(size).await;
        }
        let cursor = self.store.type_state(&self.resource_type).await?.speed;
        let mut changes = source
            .changes(&self.resource_type, cursor.map_or(0, |mark| mark.n))
            .await?;
        changes.readings.sort_by(|a, b| a.state.id.cmp(&b.state.id));
        self.begin(cursor, changes).await
    }

    /// Takes an answer that was asked for with `cursor`.
    pub async fn begin(&mut self, cursor: Cursor, changes: TypeChanges) -> Result<Stepped, MergeError> {
        let after = cursor.map_or(0, |mark| mark.n);
        let TypeChanges {
            mut readings,
            previews,
            mark,
        } = changes;
        readings.retain(|held| held.n > after);
        let mark = mark.filter(|mark| mark.n > after);
        if readings.is_empty() && previews.is_empty() && mark.is_none() {
            return Ok(Stepped::Nothing);
        }
        let session = self.store.apply_session().await?;
        let readings = readings.into_iter();
        self.answer = Some(Answer {
            session,
            start: cursor,
            readings,
            previews,
            mark,
            careful: false,
        });
        Ok(Stepped::Read)
    }

    /// Drops the answer, as a crash would.
    pub fn forget(&mut self) {
        self.answer = None;
    }

    /// Commits the next page of `size` readings.
    pub async fn commit(&mut self, size: usize) -> Result<Stepped, MergeError> {
        let Some(mut answer) = self.answer.take() else {
            return Ok(Stepped::Nothing);
        };
        let size = if answer.careful { 1 } else { size };
        let readings: Arc<[Reading]> = answer.readings.by_ref().take(size).collect();
        let last = answer.readings.len() == 0;
        let previews: Arc<[Preview]> = if last {
            std::mem::take(&mut answer.previews).into()
        } else {
            Arc::default()
        };
        let mark = answer.mark.filter(|_| last);

        match self
            .apply(
                &mut answer.session,
                answer.start,
                &readings,
                &previews,
                last,
                mark,
            )
            .await
        {
            Ok(None) => Ok(Stepped::Overtaken),
            Ok(Some(page)) if last => Ok(Stepped::Last(page)),
            Ok(Some(page)) => {
                self.answer = Some(answer);
                Ok(Stepped::Page(page))
            }
            // One bad resource must not stop the stream: find it by going on one by one, record it, go on.
            Err(error @ StoreError::Database { data: true, .. }) => {
                if answer.careful || readings.len() + previews.len() <= 1 {
                    let page = self
                        .apply_failed(&mut answer, &readings, last, mark, &error)
                        .await?;
                    let Some(page) = page else {
                        return Ok(Stepped::Overtaken);
                    };
                    if last {
                        return Ok(Stepped::Last(page));
                    }
                    self.answer = Some(answer);
                    return Ok(Stepped::Page(page));
                }
                let rest: Vec<_> = readings.iter().cloned().chain(answer.readings).collect();
                answer.readings = rest.into_iter();
                // A preview is worth nothing that the reading to come is not: none, rather than the one that cannot be stored.
                answer.previews = Vec::new();
                answer.careful = true;
                self.answer = Some(answer);
                Ok(Stepped::Page(AppliedPage::default()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// One transaction; evaluated again as often as the views change under it.
    async fn apply(
        &mut self,
        session: &mut ApplySession,
        start: Cursor,
        readings: &Arc<[Reading]>,
        previews: &Arc<[Preview]>,
        last: bool,
        mark: Option<Mark>,
    ) -> Result<Option<AppliedPage>, StoreError> {
        let mut reloads = 0;
        loop {
            let views = self.views().await?;
            let (readings, previews) = evaluate_page(&views, readings, previews).await;
            let last = last.then_some(LastPage { previews, mark });
            match session.apply_page(&views, start, &readings, last.as_ref()).await {
                Err(StoreError::ViewsChanged { .. }) if reloads < RELOADS => {
                    self.views = None;
                    reloads += 1;
                }
                done => return done,
            }
        }
    }

    /// The same page, with its readings recorded as evaluation errors.
    async fn apply_failed(
        &mut self,
        answer: &mut Answer,
        readings: &[Reading],
        last: bool,
        mark: Option<Mark>,
        error: &StoreError,
    ) -> Result<Option<AppliedPage>, MergeError> {
        tracing::warn!(resource_type = self.resource_type, reason = %error, "a resource could not be stored in the views");
        let views = self.views().await?;
        let failed: Vec<ReadingAt> = readings
            .iter()
            .map(|held| ReadingAt {
                state: refused(&views, &held.state),
                n: held.n,
                as_of: held.as_of,
            })
            .collect();
        let last = last.then_some(LastPage {
            previews: Vec::new(),
            mark,
        });
        Ok(answer
            .session
            .apply_page(&views, answer.start, &failed, last.as_ref())
            .await?)
    }

    async fn views(&mut self) -> Result<Arc<TypeViews>, StoreError> {
        if let Some(views) = &self.views {
            return Ok(views.clone());
        }
        let views = Arc::new(self.store.type_views(&self.resource_type).await?);
        self.views = Some(views.clone());
        Ok(views)
    }
}

/// A state whose rows PostgreSQL will not take: no rows in any view, and a record of it.
fn refused(views: &TypeViews, state: &State) -> EvaluatedState {
    EvaluatedState {
        id: state.id.clone(),
        version: state.version,
        last_updated: state.last_updated,
        rows: views
            .views
            .iter()
            .map(|_| RowsOf::Failed {
                reason: "the views' PostgreSQL refused a value of a row".into(),
            })
            .collect(),
    }
}

async fn evaluate_page(
    views: &Arc<TypeViews>,
    readings: &Arc<[Reading]>,
    previews: &Arc<[Preview]>,
) -> (Vec<ReadingAt>, Vec<ReceivedPreview>) {
    let bytes = |state: &State| match &state.content {
        fhir_core::resource::Content::Body(body) => body.len(),
        _ => 0,
    };
    let total: usize = readings
        .iter()
        .map(|r| bytes(&r.state))
        .chain(previews.iter().map(|p| bytes(&p.state)))
        .sum();
    if total <= INLINE_BYTES {
        return evaluate_all(views, readings, previews);
    }
    let (views, readings, previews) = (views.clone(), readings.clone(), previews.clone());
    let task = tokio::task::spawn_blocking(move || evaluate_all(&views, &readings, &previews));
    match task.await {
        Ok(evaluated) => evaluated,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}

fn evaluate_all(
    views: &TypeViews,
    readings: &[Reading],
    previews: &[Preview],
) -> (Vec<ReadingAt>, Vec<ReceivedPreview>) {
    let reading = |(state, held): (EvaluatedState, &Reading)| ReadingAt {
        state,
        n: held.n,
        as_of: held.as_of,
    };
    let preview = |(state, held): (EvaluatedState, &Preview)| ReceivedPreview {
        state,
        received: held.received,
    };
    let read = evaluate(views, readings.iter().map(|held| &held.state));
    let previewed = evaluate(views, previews.iter().map(|held| &held.state));
    (
        read.into_iter().zip(readings).map(reading).collect(),
        previewed.into_iter().zip(previews).map(preview).collect(),
    )
}
