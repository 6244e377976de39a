//! Who asked what, when, what for, and what was given out: a record for each operation that reads patients' data or changes something, of every daemon alike.
//!
//! ```text
//! request ► layer (a call begins) ► … who is it ► service: question, answer are noted ► body is watched to its end ► layer (the call ends)
//!                                                                                                                       │ record
//!                                            queue ◄────────────────────────────────────────────────────────────────────┘
//!                                              └► writer, a thread ──► file: lines of a chain
//!                                                               └────► spool ──► AuditEvents into HAPI
//! ```
//!
//! A record holds no value that was asked for or given out: values stand as hashes under a key (`keys`), names once they are known to be names
//! (`record::Asked`). Operations go on while records are written, unless they are to be refused without; then the record of their beginning is safe before the
//! first row leaves, and that of their end before the last part does. `docs/audit.md` has each field, and how to check a file.
//!
//! Read in this order: [`operation`], `record`, `chain`, `log`; then the private `call`, `layer`, `body`, `writer`; apart from them `fhir`.

mod audit;
mod body;
mod call;
mod chain;
pub mod command;
mod config;
mod fhir;
mod keys;
mod layer;
mod log;
mod metrics;
pub mod operation;
mod outcome;
mod purpose;
mod question;
mod record;
mod services;
mod tail;
mod writer;

pub use audit::{Audit, AuditError};
pub use call::Call;
pub use config::AuditConfig;
pub use question::{Noted, Question};
pub use services::Audited;
