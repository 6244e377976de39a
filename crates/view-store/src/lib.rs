//! How a view lies in PostgreSQL: three tables a view, the ledger, reading numbers, publish, apply, freshness, roles, migrations.
//!
//! The protocol is fixed by an executable model (`docs/protocol.md`, 15 rules); the decisions are [`fhir_core::merge`]'s; this crate makes
//! each step of it one transaction.
//!
//! | schema | holds | who reads |
//! | --- | --- | --- |
//! | `sqlonfhir` | merged views, `freshness`, `errors` | everyone with the reader role |
//! | `sqlonfhir_batch` | batch-only views | reader role |
//! | `sqlonfhir_base`, `sqlonfhir_live`, `sqlonfhir_shadowed` | the three tables of each view, of one shape | owner, merger |
//! | `sqlonfhir_meta` | registry, types, ledger, the reading number, migrations | owner, merger |

mod apply;
mod cohort;
mod copy;
mod counts;
mod decode;
pub mod driver;
mod encode;
mod error;
mod evaluated;
mod freshness;
mod indexes;
mod insert;
mod jsonb;
mod leadership;
mod ledger;
mod lend;
mod locks;
mod migrate;
mod numeric;
mod publish;
mod pulse;
mod readings;
mod registry;
mod replica;
mod schedule;
mod select;
mod session;
pub mod sql;
mod store;
mod tables;
mod transaction;

pub use apply::{AppliedPage, Cursor, LastPage, ReadingAt, ReceivedPreview};
pub use cohort::{
    CohortError, CohortSelect, CohortSnapshot, FoundPatients, KeyColumn, KeyForm, PatientKey, PatientRows,
    Patients,
};
pub use counts::RowCounts;
pub use driver::is_postgres_url;
pub use encode::{EncodeError, encode_rows};
pub use error::{StoreError, listed, shortened};
pub use evaluated::{EvaluatedState, Evaluator, LoadBatch, RowsOf, evaluate};
pub use freshness::{TypeFreshness, TypeState};
pub use leadership::MergeLead;
pub use publish::{Differing, Load, Loader, RangeBounds, Run, RunKind, SliceOutcome, SlicePlan};
pub use pulse::{Pulse, ServerState};
pub use readings::Drawn;
pub use registry::{PutOutcome, RegisteredView, TypeViews, ViewState};
pub use replica::{ExpectedIdentity, LogPosition, ServerIdentity, ServerLook, ServerWatch};
pub use schedule::ScheduleState;
pub use select::{
    Answer, AnswerRows, Asked, Condition, Operator, OrderBy, Relation, RowKey, Select, Snapshot,
};
pub use session::ApplySession;
pub use store::{StoreSettings, ViewStore};

#[cfg(test)]
mod tests {
    use super::*;

    fn send<T: Send>(_: T) {}

    /// Every future can be spawned. Compiled, never called.
    #[expect(dead_code, reason = "it only has to compile")]
    fn futures_can_be_spawned(
        store: &ViewStore,
        session: &mut ApplySession,
        snapshot: &mut Snapshot,
        views: &TypeViews,
    ) {
        send(store.migrate());
        send(store.type_views(""));
        send(store.drop_view(""));
        send(store.known_version("", ""));
        send(store.begin_run("", RunKind::Join, true));
        send(store.snapshot(None));
        send(session.apply_page(views, None, &[], None));
        send(store.apply_marks(&[]));
        send(snapshot.freshness(""));
    }

    #[expect(dead_code, reason = "it only has to compile")]
    fn runs_can_be_spawned(run: &mut Run, position: &fhir_core::merge::Position, plan: SlicePlan) {
        send(run.stage(&[]));
        send(run.finish_load());
        send(run.stage_gone(chrono::DateTime::UNIX_EPOCH));
        send(run.publish_slice(position, plan));
        send(run.lock_for_join());
        send(run.join(position));
        send(run.live_ids());
    }

    #[expect(dead_code, reason = "it only has to compile")]
    fn selects_can_be_spawned(snapshot: &mut Snapshot, select: &Select) {
        send(snapshot.select(select));
    }

    #[expect(dead_code, reason = "it only has to compile")]
    fn questions_can_be_spawned(store: &ViewStore, view: &RegisteredView, select: &Select) {
        send(store.ask(view, &[], select));
    }

    #[expect(dead_code, reason = "it only has to compile")]
    fn cohorts_can_be_found_by_a_task(cohort: &mut CohortSnapshot, select: &CohortSelect) {
        send(cohort.find(select));
    }

    #[expect(dead_code, reason = "it only has to compile")]
    fn definitions_can_be_put_by_a_task(store: &ViewStore, view: &fhir_core::view::CompiledView) {
        send(store.put_view(view, "", false));
    }
}
