//! A listener that strangers can reach is not opened to them by oversight.

use std::net::SocketAddr;

use super::Demands;

impl Demands {
    /// Demands that a listener which other machines reach knows who calls. `key`: that of its address; `section`: where `allow_unauthenticated` stands; `ways`: by which
    /// settings callers are made to prove who they are.
    pub fn closed(
        &mut self,
        (key, section): (&str, &str),
        address: SocketAddr,
        authenticated: bool,
        allowed: bool,
        ways: &str,
    ) {
        self.demand(
            is_closed(address, authenticated, allowed),
            format!(
                "{key}: other machines reach this address, and whoever calls there need not prove who they are: {ways}, or listen at a loopback address such as \
                 127.0.0.1, or set {section}.allow_unauthenticated = true where something else keeps strangers out"
            ),
        );
    }
}

/// Whether no stranger gets in, or that is meant.
fn is_closed(address: SocketAddr, authenticated: bool, allowed: bool) -> bool {
    authenticated || allowed || address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_open_without_being_told_so() {
        for (address, loopback) in [
            ("127.0.0.1:1", true),
            ("127.8.8.8:1", true),
            ("[::1]:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("[::]:1", false),
            ("10.0.0.1:1", false),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(is_closed(address, false, false), loopback, "{address}");
            assert!(is_closed(address, true, false) && is_closed(address, false, true));
        }
    }

    #[test]
    fn a_refusal_names_the_field_and_the_ways_out() {
        let mut demands = Demands::default();
        let address = "0.0.0.0:7423".parse().expect("an address");
        let keys = ("http.listen", "http");
        demands.closed(keys, address, false, false, "set http.tls");
        let said = demands.result().expect_err("it is open").join("\n");
        for part in [
            "http.listen: ",
            "http.tls",
            "127.0.0.1",
            "http.allow_unauthenticated = true",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}
