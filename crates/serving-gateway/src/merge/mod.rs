//! Live changes to view tables: what the speed store holds later than the views' cursor is applied, type by type.

mod merger;

pub use merger::{ChangesSource, MergeError, Merger, Stepped};
