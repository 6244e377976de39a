//! AuditEvents in HAPI: records wait in a folder until HAPI has taken them, many at a time, in the order in which they were written.
//!
//! ```text
//! writer ──lines──► spool (segments in a folder) ──► sender ──Bundle of PUT AuditEvent/<id>──► HAPI
//! ```
//!
//! An event has the id of its record, so that one which is sent twice, after an answer that was lost, is there once.

mod event;
mod hapi;
mod sender;
mod spool;

use std::path::PathBuf;

use daemon::Secret;

pub(crate) use self::{
    hapi::{Hapi, HapiError},
    sender::Sender,
    spool::SpoolSink,
};

/// What HAPI asks of us: the value of the header `Authorization`.
#[derive(Debug, Clone)]
pub(crate) enum Authorization {
    None,
    Fixed(Secret),
    /// Read for each request.
    File(PathBuf),
}

/// `[audit.fhir]`, as it is used.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Without a slash at its end.
    pub(crate) base: String,
    pub(crate) authorization: Authorization,
    pub(crate) spool: PathBuf,
    pub(crate) max_spool_bytes: u64,
}
