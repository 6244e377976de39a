//! Whom a certificate names, as the listener has verified it, and what the configuration lets them do.

use std::collections::BTreeMap;

use axum::http::Extensions;
use daemon::{Principal, Proof};

use crate::{Grants, authenticator::Identity};

/// By name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Certificates(pub(crate) BTreeMap<String, Grants>);

impl Certificates {
    /// The holder of the certificate that the connection was made with, if there is one. One whom the configuration does not name may do nothing.
    pub(crate) fn holder(&self, extensions: &Extensions) -> Option<Identity> {
        let principal = extensions
            .get::<Principal>()
            .filter(|principal| principal.proof == Proof::Certificate)?;
        let grants = self.0.get(&*principal.name).cloned();
        Some(Identity {
            principal: principal.clone(),
            grants: grants.unwrap_or_else(|| Grants::of([])),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request_of(name: &str, proof: Proof) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(Principal {
            name: name.into(),
            proof,
        });
        extensions
    }

    #[test]
    fn a_certificate_is_worth_what_the_configuration_says_of_its_name() {
        let known = Certificates([("gateway".to_owned(), Grants::of(["system/*.rs"]))].into());
        let of = |name, proof| {
            known
                .holder(&request_of(name, proof))
                .map(|held| held.grants.may_read_all())
        };
        assert_eq!(of("gateway", Proof::Certificate), Some(true));
        assert_eq!(of("another", Proof::Certificate), Some(false));
        // Who is known by something else is none of a certificate's.
        assert_eq!(of("gateway", Proof::Jwt), None);
        assert!(known.holder(&Extensions::new()).is_none());
    }
}
