use std::io::Write as _;

use daemon::{CommonConfig, DaemonConfig};

use super::*;

const DEFAULTS: &str = include_str!("../../../../deploy/config/serving-gateway.toml");
const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// The two sections that matter here, of a sample that has others.
#[derive(Debug, Deserialize)]
struct Sample {
    daemon: CommonConfig,
    auth: AuthConfig,
}

impl DaemonConfig for Sample {
    fn common(&self) -> &CommonConfig {
        &self.daemon
    }

    fn validate(&self) -> Result<(), Vec<String>> {
        let mut demands = Demands::default();
        self.auth.check(&mut demands);
        demands.result()
    }
}

fn with(lines: &str) -> Result<AuthConfig, String> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(lines.as_bytes()).expect("written");
    daemon::config::load::<Sample>(DEFAULTS, Some(file.path()), "RF_IDENTITY_TEST")
        .map(|sample| sample.auth)
        .map_err(|error| error.to_string())
}

fn jwt(lines: &str) -> String {
    format!("[[auth.jwt]]\nissuer = \"https://issuer.test\"\naudiences = [\"us\"]\n{lines}")
}

#[test]
fn the_samples_name_nobody_and_any_of_four_ways_does() {
    assert!(!with("").expect("the sample").is_on());
    let empty = tempfile::NamedTempFile::new().expect("a file");
    for lines in [
        format!("[[auth.static_tokens]]\nname = \"a\"\nsha256 = \"{DIGEST}\"\nscopes = [\"system/*.rs\"]\n"),
        format!("[auth]\nstatic_tokens_file = \"{}\"\n", empty.path().display()),
        "[auth.certificates]\n\"Gateway.internal.test\" = [\"system/*.rs\"]\n".to_owned(),
        jwt("jwks_url = \"https://issuer.test/jwks\"\n"),
    ] {
        assert!(with(&lines).expect("good").is_on(), "{lines}");
    }
}

#[test]
fn the_sections_of_all_daemons_are_the_same() {
    let section = |sample: &str| {
        let begin = sample.find("# Who may call").expect("the section");
        let end = begin + sample[begin..].find("[auth.certificates]").expect("its end");
        sample[begin..end].to_owned()
    };
    let ours = section(DEFAULTS);
    for other in [
        include_str!("../../../../deploy/config/batch-refresher.toml"),
        include_str!("../../../../deploy/config/speed-ingestor.toml"),
    ] {
        assert_eq!(section(other), ours);
    }
}

#[test]
fn a_certificates_name_is_kept_letter_by_letter() {
    let config =
        with("[auth.certificates]\n\"spiffe://Test.org/ns/a.b\" = [\"system/Patient.rs\"]\n").expect("good");
    let known = config.certificates().expect("good");
    assert!(known.0["spiffe://Test.org/ns/a.b"].may_read("Patient"));
}

#[test]
fn keys_come_over_tls_or_from_this_machine_unless_allowed() {
    let insecure = "[auth]\nallow_insecure_jwks = true\n";
    for (url, before, good) in [
        ("https://issuer.test/jwks", "", true),
        ("http://127.0.0.1:1/jwks", "", true),
        ("http://[::1]:1/jwks", "", true),
        ("http://localhost/jwks", "", true),
        ("http://issuer.test/jwks", "", false),
        ("http://127.0.0.1.issuer.test/jwks", "", false),
        ("http://issuer.test/jwks", insecure, true),
        ("ftp://issuer.test/jwks", insecure, false),
        ("https://user:planted@issuer.test/jwks", "", false),
        ("issuer.test/jwks", "", false),
    ] {
        let made = with(&format!("{before}{}", jwt(&format!("jwks_url = \"{url}\"\n"))));
        assert_eq!(made.is_ok(), good, "{url}: {made:?}");
        if let Err(error) = made {
            assert!(
                error.contains("auth.jwt: issuer 1: jwks_url") && !error.contains("planted"),
                "{error}"
            );
        }
    }
}

#[test]
fn all_mistakes_are_told_at_once_by_key_and_place_and_without_a_value() {
    let error = with(&format!(
        "[auth]\nleeway_seconds = 601\nmax_lifetime_seconds = 0\nmax_token_bytes = 1\njwks_refresh_seconds = 0\njwks_retry_seconds = 0\njwks_stale_seconds = 0\n\
         [[auth.static_tokens]]\nname = \"a\"\nsha256 = \"planted\"\nscopes = [\"system/*.rs\"]\n\
         [auth.certificates]\n\"gateway\" = [\"system/planted.rs\"]\n\
         [[auth.jwt]]\nissuer = \"\"\naudiences = []\nalgorithms = []\n{}",
        jwt("jwks_url = \"https://issuer.test/jwks\"\njwks_file = \"/x\"\n")
    ))
    .expect_err("nothing is good");
    for told in [
        "auth.leeway_seconds",
        "auth.max_lifetime_seconds",
        "auth.max_token_bytes",
        "auth.jwks_refresh_seconds",
        "auth.jwks_retry_seconds",
        "auth.jwks_stale_seconds",
        "auth.static_tokens: token 1: its SHA-256",
        "auth.certificates: entry 1: a scope",
        "auth.jwt: issuer 1: issuer",
        "auth.jwt: issuer 1: audiences",
        "auth.jwt: issuer 1: algorithms",
        "auth.jwt: issuer 1: jwks_url, jwks_file",
        "auth.jwt: issuer 2: jwks_url, jwks_file",
    ] {
        assert!(error.contains(told), "{told}: {error}");
    }
    assert!(!error.contains("planted"), "{error}");
    for algorithm in ["HS256", "none", "RS256"] {
        let lines = jwt(&format!("jwks_file = \"/x\"\nalgorithms = [\"{algorithm}\"]\n"));
        assert!(with(&lines).is_err(), "{algorithm}");
    }
    let twice = format!("{0}{0}", jwt("jwks_file = \"/x\"\n"));
    assert!(with(&twice).expect_err("twice").contains("same issuer"));
}
