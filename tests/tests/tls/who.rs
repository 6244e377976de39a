//! Every listener of every daemon, and everyone who may or may not come in.

use std::collections::BTreeMap;

use e2e::{
    certificates::{Authority, Pair},
    process::Daemon,
};

use crate::installation::{Files, Installation, OPERATOR, http_client};

/// What a caller gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// An answer of the service.
    Answer,
    /// `PERMISSION_DENIED`, or 403.
    Forbidden,
    /// No connection.
    Nothing,
}

/// What a caller trusts and shows; `None`: no TLS.
type Caller<'a> = Option<(&'a str, Option<&'a Pair>)>;

/// A client, and the URL of a path.
fn reached(address: &str, path: &str, caller: Caller<'_>) -> anyhow::Result<(reqwest::Client, String)> {
    if let Some((trusted, shown)) = caller {
        return Ok((http_client(trusted, shown)?, format!("https://{address}{path}")));
    }
    let _installed = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build()?;
    Ok((client, format!("http://{address}{path}")))
}

/// A call of gRPC by a client that looks at no certificate of its own before it shows it.
async fn grpc(daemon: &Daemon, caller: Caller<'_>) -> anyhow::Result<Outcome> {
    let (client, url) = reached(&daemon.address("grpc")?, "/grpc.health.v1.Health/Check", caller)?;
    let call = client
        .post(url)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        // A message without content.
        .body(vec![0; 5]);
    let Ok(answer) = call.send().await else {
        return Ok(Outcome::Nothing);
    };
    anyhow::ensure!(answer.version() == reqwest::Version::HTTP_2, "{answer:?}");
    // Of a call that goes well the status comes behind the message.
    Ok(match answer.headers().get("grpc-status") {
        None => Outcome::Answer,
        Some(status) if status == "7" => Outcome::Forbidden,
        Some(other) => anyhow::bail!("status {other:?}"),
    })
}

async fn http(daemon: &Daemon, of: &str, path: &str, caller: Caller<'_>) -> anyhow::Result<Outcome> {
    let (client, url) = reached(&daemon.address(of)?, path, caller)?;
    Ok(match client.get(url).send().await {
        Ok(answer) if answer.status() == 403 => {
            // An error of HTTP is an OperationOutcome, whoever gets it.
            let said = answer.text().await?;
            anyhow::ensure!(said.contains("\"forbidden\""), "{said}");
            Outcome::Forbidden
        }
        Ok(_) => Outcome::Answer,
        Err(_) => Outcome::Nothing,
    })
}

#[tokio::test]
async fn each_listener_lets_in_who_is_on_its_list_and_nobody_else() -> anyhow::Result<()> {
    let (authority, foreign) = (Authority::new()?, Authority::new()?);
    let files = Files {
        issuer: &authority,
        trusted: authority.pem.clone(),
    };
    let installation = Installation::start(&files, 1800.0).await?;
    // What was written after the views were materialised has come from one layer to the next, by mutual TLS alone.
    installation.sees_live("a").await?;

    let right = authority.issue(&[OPERATOR])?;
    let expired = authority.issue_expired(&[OPERATOR])?;
    let of_another = foreign.issue(&[OPERATOR])?;
    let unlisted = authority.issue(&["somebody"])?;
    let trusted = authority.pem.as_str();
    let callers: [(&str, Caller<'_>, Outcome); 7] = [
        ("right", Some((trusted, Some(&right))), Outcome::Answer),
        ("plain", None, Outcome::Nothing),
        ("expired", Some((trusted, Some(&expired))), Outcome::Nothing),
        ("foreign", Some((trusted, Some(&of_another))), Outcome::Nothing),
        ("nothing-shown", Some((trusted, None)), Outcome::Nothing),
        (
            "not-on-the-list",
            Some((trusted, Some(&unlisted))),
            Outcome::Forbidden,
        ),
        (
            "trusts-another",
            Some((&foreign.pem, Some(&right))),
            Outcome::Nothing,
        ),
    ];
    let mut wrong = BTreeMap::new();
    let mut cells = 0;
    for (name, caller, expected) in callers {
        let mut outcomes = Vec::new();
        for daemon in installation.daemons() {
            outcomes.push(("gRPC", grpc(daemon, caller).await));
            outcomes.push(("admin", http(daemon, "admin", "/livez", caller).await));
        }
        let (speed, serving) = (&installation.speed, &installation.serving);
        outcomes.push(("webhook", http(speed, "http", "/fhir", caller).await));
        outcomes.push(("HTTP", http(serving, "http", "/metadata", caller).await));
        for (number, (listener, outcome)) in outcomes.into_iter().enumerate() {
            cells += 1;
            let outcome = outcome?;
            if outcome != expected {
                wrong.insert((name, listener, number), outcome);
            }
        }
    }
    assert_eq!(cells, 7 * 8);
    assert!(wrong.is_empty(), "{wrong:?}");
    for daemon in installation.daemons() {
        // The names of callers are for the audit, not for the log.
        assert!(!daemon.log().contains("somebody"), "{}", daemon.log());
    }
    Ok(())
}
