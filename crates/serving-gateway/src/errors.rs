//! From the views' database's errors to the callers'.

use api::{Code, ServiceError};
use view_store::StoreError;

/// An error of the views' database, as callers get it.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it is made for `map_err`, which hands the error over"
)]
pub(crate) fn store_error(error: StoreError) -> ServiceError {
    match &error {
        // Columns and orders were checked before: what the database alone can tell is of the values.
        StoreError::InvalidSelect(message) => ServiceError::new(Code::Invalid, message.clone()).at("filters"),
        // A view is a name in a question here, as a column is.
        StoreError::UnknownView { .. } => ServiceError::invalid("view", &error),
        // The gateway does not migrate: batch-refresher will have done so when it is asked again.
        StoreError::NotMigrated(_)
        | StoreError::ViewsChanged { .. }
        | StoreError::Busy { .. }
        | StoreError::Database { transient: true, .. } => {
            ServiceError::new(Code::Unavailable, error.to_string())
        }
        StoreError::Database { .. }
        | StoreError::InvalidDefinition(_)
        | StoreError::Incompatible(_)
        | StoreError::Inconsistent(_) => ServiceError::internal(&error),
    }
}
