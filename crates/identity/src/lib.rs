//! Who calls, and what they may do: the one place where that is decided, for gRPC and HTTP of all daemons.
//!
//! ```text
//! Authorization: Bearer … ─┬─ static token ─ tokens ─────────────┐
//! (or a certificate of TLS) └─ JWT ─ jwt ◄── keys ◄── issuer ◄─ JWKS ├─► Principal and Grants ─► guard ─► the request's extensions ─► the service
//!                                                    scopes ─────┘                                 ▲
//!                                                               table: operation → what it needs ──┘
//! ```
//!
//! `table` says of every operation what it needs; [`Guard`] holds it before the operation begins. What only the operation itself can tell, the types of the views
//! that it reads, is asked of [`Grants`] where they are looked up: in the gateway the catalog of views shows nothing else.
//!
//! Pure: `scope`, `grants`, `jwt`, `keys`, `table`. At the rim: `issuer` (HTTP and files), `tokens` (a file).

mod authenticator;
mod certificates;
mod config;
mod crypto;
mod grants;
mod guard;
mod issuer;
mod jwt;
mod keys;
mod measures;
mod refusal;
mod remembered;
mod scope;
mod table;
mod tokens;

pub use authenticator::{Authenticator, Identity};
pub use config::AuthConfig;
pub use grants::Grants;
pub use guard::Guard;
pub use refusal::Refusal;
