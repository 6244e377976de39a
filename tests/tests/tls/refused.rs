//! What is not started: listeners that strangers can reach, and files that cannot be used. `--check-config` says what a start would.

use std::process::Command;

use e2e::{
    certificates::Authority,
    process,
    server::{self, Lifetime},
};

/// Whether a configuration is good, and what is said of it.
fn checked(name: &str, config: &str) -> anyhow::Result<(Option<i32>, String)> {
    let folder = server::new_folder("refused", None, Lifetime::Program)?;
    let file = folder.join("config.toml");
    let secret = if name == "speed-ingestor" {
        "[webhook]\nsecret = \"s3cret\"\n"
    } else {
        ""
    };
    std::fs::write(&file, format!("{config}{secret}"))?;
    let done = Command::new(process::binary(name)?)
        .arg("--check-config")
        .arg("--config")
        .arg(&file)
        .output()?;
    Ok((done.status.code(), String::from_utf8(done.stderr)?))
}

/// A configuration of a listener at all addresses, with further lines.
fn open(name: &str, further: &str) -> String {
    if name == "serving-gateway http" {
        format!("[http]\nlisten = \"0.0.0.0:0\"\n{further}")
    } else {
        format!("[daemon]\ngrpc_listen = \"0.0.0.0:0\"\n{further}")
    }
}

#[test]
fn a_listener_that_strangers_reach_is_refused_unless_they_must_say_who_they_are_or_that_is_meant()
-> anyhow::Result<()> {
    let authority = Authority::new()?;
    let pair = authority.issue(&["here"])?;
    let folder = server::new_folder("guarded", None, Lifetime::Program)?;
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).map(|()| path.display().to_string())
    };
    let files = format!(
        "certificate = \"{}\"\nkey = \"{}\"\nclient_ca = \"{}\"\n",
        put("a.pem", &pair.certificate)?,
        put("a.key", &pair.key)?,
        put("ca.pem", &authority.pem)?
    );
    for (listener, key, section, tls) in [
        (
            "batch-refresher",
            "daemon.grpc_listen",
            "daemon.grpc",
            "daemon.grpc_tls",
        ),
        (
            "speed-ingestor",
            "daemon.grpc_listen",
            "daemon.grpc",
            "daemon.grpc_tls",
        ),
        (
            "serving-gateway",
            "daemon.grpc_listen",
            "daemon.grpc",
            "daemon.grpc_tls",
        ),
        ("serving-gateway http", "http.listen", "http", "http.tls"),
    ] {
        let daemon = listener.split(' ').next().unwrap_or(listener);
        let (code, said) = checked(daemon, &open(listener, ""))?;
        assert_eq!(code, Some(2), "{listener}: {said}");
        let allow = format!("{section}.allow_unauthenticated = true");
        for part in [&format!("{key}: "), tls, "127.0.0.1", &allow] {
            assert!(said.contains(part), "{listener} {part}: {said}");
        }
        // Of one listener, and not of another.
        assert_eq!(said.matches("allow_unauthenticated").count(), 1, "{said}");
        let allowed = if section == "http" {
            "allow_unauthenticated = true\n"
        } else {
            "[daemon.grpc]\nallow_unauthenticated = true\n"
        };
        let (code, said) = checked(daemon, &open(listener, allowed))?;
        assert_eq!(code, Some(0), "{listener}: {said}");
        for (asked, expected) in [("required", 0), ("optional", 2)] {
            let secured = format!("[{tls}]\n{files}client_certificates = \"{asked}\"\n");
            let (code, said) = checked(daemon, &open(listener, &secured))?;
            assert_eq!(code, Some(expected), "{listener} {asked}: {said}");
        }
    }
    Ok(())
}

#[test]
fn files_that_cannot_be_used_are_said_by_their_keys() -> anyhow::Result<()> {
    let authority = Authority::new()?;
    let (pair, other) = (authority.issue(&["here"])?, authority.issue(&["here"])?);
    let expired = authority.issue_expired(&["here"])?;
    let folder = server::new_folder("unusable", None, Lifetime::Program)?;
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).map(|()| path.display().to_string())
    };
    let (certificate, key) = (put("a.pem", &pair.certificate)?, put("a.key", &pair.key)?);
    let (other_key, nothing) = (put("b.key", &other.key)?, put("nothing", "")?);
    let ended = (put("c.pem", &expired.certificate)?, put("c.key", &expired.key)?);
    for (daemon, section, certificate, key, said) in [
        (
            "batch-refresher",
            "daemon.grpc_tls",
            &certificate,
            &other_key,
            "key: must be the key of the certificate",
        ),
        (
            "batch-refresher",
            "daemon.admin_tls",
            &nothing,
            &key,
            "certificate: must hold a certificate",
        ),
        (
            "speed-ingestor",
            "webhook.tls",
            &ended.0,
            &ended.1,
            "certificate: has expired",
        ),
        (
            "speed-ingestor",
            "batch.tls",
            &certificate,
            &nothing,
            "key: must hold a private key",
        ),
        (
            "speed-ingestor",
            "hapi.tls",
            &certificate,
            &other_key,
            "key: must be the key of the certificate",
        ),
        (
            "speed-ingestor",
            "redis.tls",
            &certificate,
            &other_key,
            "key: must be the key of the certificate",
        ),
        (
            "serving-gateway",
            "http.tls",
            &certificate,
            &"/nowhere/key.pem".to_owned(),
            "key: cannot be read",
        ),
        (
            "serving-gateway",
            "services.tls",
            &key,
            &key,
            "certificate: must hold a certificate",
        ),
    ] {
        let config = format!("[{section}]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
        let (code, error) = checked(daemon, &config)?;
        assert_eq!(code, Some(2), "{section}: {error}");
        assert!(error.contains(&format!("{section}.{said}")), "{section}: {error}");
        assert!(!error.contains("/nowhere") && !error.contains("-----"), "{error}");
    }
    // What would be sent in the open, though it was meant to be secured.
    let ca = put("ca.pem", &authority.pem)?;
    for (daemon, section, urls) in [
        (
            "serving-gateway",
            "services.tls",
            ["services.speed", "services.batch"].as_slice(),
        ),
        ("speed-ingestor", "batch.tls", &["batch.url"]),
        ("speed-ingestor", "redis.tls", &["redis.url"]),
    ] {
        let (code, error) = checked(daemon, &format!("[{section}]\nca = \"{ca}\"\n"))?;
        assert_eq!(code, Some(2), "{section}: {error}");
        for url in urls {
            assert!(
                error.contains(&format!("{url}: must begin with ")),
                "{section}: {error}"
            );
        }
    }
    Ok(())
}
