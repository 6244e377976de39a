//! Live changes to view tables: what the speed store holds later than the views' cursor is applied, type by type.

mod follow;
mod merger;
mod traced;

pub(crate) use follow::{Follower, speed_client};
pub use merger::{ChangesSource, MergeError, Merger, Stepped};
