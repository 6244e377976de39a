//! Who a call comes from, as the listener found out: it travels in the request's extensions, of HTTP and of gRPC alike.

use std::sync::Arc;

/// A caller that has proved who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The name that authorisation and the audit know it by: a certificate's, a static token's, or a JWT's `sub`. Not a secret; it may stand in the audit, not in logs.
    pub name: Arc<str>,
    /// By what it has proved it.
    pub proof: Proof,
}

/// By what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A certificate of its own, in mutual TLS.
    Certificate,
    /// A token that the configuration knows.
    StaticToken,
    /// A token that an issuer signed.
    Jwt,
}
