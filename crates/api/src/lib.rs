//! The gRPC contracts: generated code, the domain types that stand for its messages, and the errors of all services.
//!
//! Used by servers and clients alike. Generated types stop here: a service decodes a request with `TryFrom` (which names the field and the rule that it
//! breaks), works on domain types and encodes its answer with `From`.

#![expect(clippy::allow_attributes, reason = "generated code has them")]

pub mod batch;
pub mod cohort;
pub mod contract;
mod details;
pub mod error;
mod field;
pub mod outcome;
pub mod page;
pub mod query;
mod row_batch;
pub mod serving;
pub mod speed;
pub mod sql;
pub mod sql_run;
pub mod time;
mod trace_context;
pub mod transport;
pub mod values_json;

pub use error::{Code, ServiceError};
pub use field::{InvalidField, required, without_nul};
pub use outcome::Outcome;
pub use row_batch::{RowBatch, RowWriter};
pub use trace_context::TraceContext;

/// The generated code of one package: messages, clients, servers.
pub mod proto {
    /// `researchflow.batch.v1`
    #[expect(missing_docs, clippy::pedantic, reason = "generated from the contract")]
    pub mod batch {
        tonic::include_proto!("researchflow.batch.v1");
    }
    /// `researchflow.speed.v1`
    #[expect(missing_docs, clippy::pedantic, reason = "generated from the contract")]
    pub mod speed {
        tonic::include_proto!("researchflow.speed.v1");
    }
    /// `researchflow.serving.v1`
    #[expect(missing_docs, clippy::pedantic, reason = "generated from the contract")]
    pub mod serving {
        tonic::include_proto!("researchflow.serving.v1");
    }
}

/// The descriptors of all contracts, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/researchflow.bin"));

/// The largest request that services take; SpeedService takes larger ones where a resource may be larger. The largest one that our services send each other names
/// ten thousand references.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// The largest message that services send, and that clients take: a part of a stream, or one resource.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
