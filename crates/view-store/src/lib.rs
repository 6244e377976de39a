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
mod copy;
mod decode;
mod encode;
mod error;
mod evaluated;
mod freshness;
mod jsonb;
mod leadership;
mod ledger;
mod locks;
mod migrate;
mod numeric;
mod publish;
mod readings;
mod registry;
mod select;
mod session;
mod store;
mod tables;
mod transaction;

pub use apply::{AppliedPage, Cursor, LastPage, ReadingAt, ReceivedPreview};
pub use encode::{EncodeError, encode_rows};
pub use error::StoreError;
pub use evaluated::{EvaluatedState, RowsOf, evaluate};
pub use freshness::{TypeFreshness, TypeState};
pub use leadership::MergeLeadership;
pub use publish::{Run, RunKind, SliceOutcome, SlicePlan, Staged};
pub use readings::Drawn;
pub use registry::{PutOutcome, RegisteredView, TypeViews, ViewState};
pub use select::{Answer, Condition, Operator, OrderBy, Relation, Select, Snapshot};
pub use session::ApplySession;
pub use store::{StoreSettings, ViewStore};
