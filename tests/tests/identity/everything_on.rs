//! Everything at once, as an installation over patients' data has it: mutual TLS of every listener, tokens, and an audit of all three daemons.

use std::{collections::BTreeSet, path::Path};

use audit::operation::{Row as Audited, TABLE};
use daemon::tls::TlsClient;
use e2e::{
    certificates::Authority,
    issuer::{Issuer, Kind, SigningKey},
    rpc::{Call, Said, framed},
    server::{self, Lifetime},
};
use serde_json::Value;
use tonic::{Code, transport::Channel};

use crate::{
    file::{key_file, records, verify},
    http,
    installation::{Beside, Files, Installation, OPERATOR, http_client, secured},
    matrix::every_method,
    table::table,
    whole::{Asking, EVERYTHING, OF_OPERATOR, auth, tokens, views},
};

/// Of the daemons' variables and of the audits' files.
const DAEMONS: [(&str, &str); 3] = [
    ("RF_BATCH", "batch"),
    ("RF_SPEED", "speed"),
    ("RF_SERVING", "serving"),
];

/// Recorded only where they have given something out: the layers ask each other all the time.
const GIVE_NOTHING_HERE: [&str; 2] = [
    "researchflow.speed.v1.SpeedService/Changes",
    "researchflow.batch.v1.BatchService/ReadChanges",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_method_and_path_with_mutual_tls_tokens_and_audit() -> anyhow::Result<()> {
    let folder = server::new_folder("everything", None, Lifetime::Program)?;
    let key = SigningKey::new(Kind::Ed, "first");
    let issuer = Issuer::start(&[&key]).await?;
    let [known, layers] = tokens(&folder)?;
    let (authority, stranger) = (Authority::new()?, Authority::new()?);
    let trusted = authority.pem.clone();
    let files = Files {
        issuer: &authority,
        trusted: trusted.clone(),
    };
    let beside = Beside {
        views: views().into(),
        sections: auth(&issuer, &known),
        environment: environment(&folder, &layers)?,
    };
    let installation = Installation::start_with(&files, 1800.0, &beside).await?;
    let asking = Asking {
        channels: channels(&installation, &installation.operator)?,
        key: &key,
        issuer: issuer.name(),
        certified: true,
    };
    let shown = format!("Bearer {OF_OPERATOR}");
    let speed = asking.channel("SpeedService")?.clone();
    installation.house.hold_patient(speed, Some(&shown)).await?;

    every_method(&asking).await?;
    let base = format!("https://{}", installation.serving.address("http")?);
    let operator = http_client(&trusted, Some(&authority.issue(&[OPERATOR])?))?;
    http::credentials(&asking, &base, &operator).await?;

    // The best of tokens opens nothing to whoever has no certificate of the right authority.
    for (who, shown) in [("foreign", Some(stranger.issue(&[OPERATOR])?)), ("bare", None)] {
        let caller = installation.caller(who, &trusted, shown.as_ref())?;
        nobody_answers(&channels(&installation, &caller)?, &asking.token(EVERYTHING)).await?;
        let client = http_client(&trusted, shown.as_ref())?;
        for path in serving_gateway::http_paths() {
            let sent = client
                .get(format!("{base}{}", path.replace("{id}", "a")))
                .bearer_auth(OF_OPERATOR)
                .send();
            assert!(sent.await.is_err(), "{who}: {path}");
        }
    }
    // And a good certificate of one who is on no list opens no method.
    let unlisted = installation.caller("unlisted", &trusted, Some(&authority.issue(&["unlisted"])?))?;
    for (path, channel) in methods_over(&channels(&installation, &unlisted)?)? {
        let said = told(&path, OF_OPERATOR, &channel).await?;
        assert_eq!(
            (said.code(), said.answered),
            (Code::PermissionDenied, false),
            "{path}"
        );
    }
    is_recorded(&folder)
}

fn environment(folder: &Path, layers: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let (keys, layers) = (
        key_file(folder)?.display().to_string(),
        layers.display().to_string(),
    );
    let mut environment = vec![
        ("RF_SERVING__SERVICES__TOKEN_FILE".to_owned(), layers.clone()),
        ("RF_SPEED__BATCH__TOKEN_FILE".to_owned(), layers),
    ];
    for (prefix, name) in DAEMONS {
        let file = audit_of(folder, name).display().to_string();
        environment.push((format!("{prefix}__AUDIT__FILE"), file));
        environment.push((format!("{prefix}__AUDIT__KEY_FILE"), keys.clone()));
    }
    Ok(environment)
}

fn audit_of(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(format!("{name}.audit"))
}

fn channels(installation: &Installation, caller: &TlsClient) -> anyhow::Result<[(&'static str, Channel); 3]> {
    Ok([
        ("BatchService", secured(&installation.batch, caller)?),
        ("SpeedService", secured(&installation.speed, caller)?),
        ("ServingService", secured(&installation.serving, caller)?),
    ])
}

fn methods_over(channels: &[(&'static str, Channel)]) -> anyhow::Result<Vec<(String, Channel)>> {
    let to = |path: &str| channels.iter().find(|(service, _)| path.contains(service));
    let methods = table().into_keys().map(|path| {
        let channel = to(&path).map(|(_, channel)| channel.clone());
        channel
            .map(|channel| (path.clone(), channel))
            .ok_or_else(|| anyhow::anyhow!("no daemon serves {path}"))
    });
    methods.collect()
}

/// What is said to a call that shows a token.
async fn told(path: &str, token: &str, channel: &Channel) -> anyhow::Result<Said> {
    let bearer = format!("Bearer {token}");
    let call = Call {
        headers: &[("authorization", bearer.as_str())],
        first_only: true,
        ..Call::to(path)
    };
    call.send(channel, framed(&[])).await
}

/// No handshake comes to its end, so there is nobody to call.
async fn nobody_answers(channels: &[(&'static str, Channel)], token: &str) -> anyhow::Result<()> {
    for (path, channel) in methods_over(channels)? {
        let said = told(&path, token, &channel).await;
        assert!(said.is_err(), "{path}: {said:?}");
    }
    Ok(())
}

/// Each operation that is recorded was recorded as it was refused and as it was done, by the name that was proved; and no file was written into by another hand.
fn is_recorded(folder: &Path) -> anyhow::Result<()> {
    let (mut refused, mut done) = (BTreeSet::new(), BTreeSet::new());
    for (_, name) in DAEMONS {
        let file = audit_of(folder, name);
        verify(&[&file])?;
        for record in records(&file).iter().filter(|record| record["kind"] == "ended") {
            let operation = record["operation"].as_str().unwrap_or_default().to_owned();
            let proof = &record["who"]["proof"];
            match record["outcome"].as_str() {
                Some("unauthenticated") => refused.insert(operation),
                Some("permission_denied") => true,
                None => anyhow::bail!("an end without an outcome: {record}"),
                Some(_) => {
                    // By what the call itself showed, not by the certificate of the connection.
                    assert!(["jwt", "token"].map(Value::from).contains(proof), "{record}");
                    done.insert(operation)
                }
            };
        }
    }
    for (operation, row) in TABLE {
        if matches!(row, Audited::Recorded(_)) {
            assert!(
                refused.contains(*operation),
                "{operation}: no refusal is recorded"
            );
            assert!(
                done.contains(*operation) || GIVE_NOTHING_HERE.contains(operation),
                "{operation}: it is not recorded that it was done"
            );
        }
    }
    Ok(())
}
