//! Each alert, provoked on a running installation: Prometheus and Alertmanager as they are delivered, the project's rules and routing with time made short (see `scaled`), a receiver in
//! Slack's place. `ALERTS=all` (or `make alerts`) for all of them; else a few.
//!
//! Only by a scaled clock can be shown: that it takes as long as the rules say until an alert is told. `NotReconciledForTwoDays` and `NoBackupOfTheSpeedLayer` are shown with true
//! thresholds, over data of an earlier time.

mod faults;
mod scaled;
mod slack;
mod watched;

use std::collections::BTreeSet;

use e2e::stack::project_folder;

use crate::{faults::CANARY, slack::Message, watched::Watched};

/// What is told of an alert.
struct Told {
    alert: &'static str,
    /// Of its text: what tells it from others of its name, with what was found.
    words: &'static str,
    critical: bool,
}

const fn critical(alert: &'static str, words: &'static str) -> Told {
    Told {
        alert,
        words,
        critical: true,
    }
}

const fn warning(alert: &'static str, words: &'static str) -> Told {
    Told {
        alert,
        words,
        critical: false,
    }
}

/// Every rule, in the order of the rules, with a fault in `faults` that brings it about.
const ALL: &[Told] = &[
    critical("BatchIsOld", "Views of Patient were last refreshed"),
    critical("RefreshFailedTwice", "Refreshes of Patient fail"),
    warning(
        "NotReconciledForTwoDays",
        "Views of Patient were not compared with HAPI as a whole for 3d",
    ),
    warning(
        "ReconciliationFoundDifferences",
        "put right 1 resources of Patient that nothing had told of",
    ),
    warning("WatermarkMarginNearlyUsedUp", "almost too long before"),
    warning(
        "ResourcesCannotBeEvaluated",
        "1 resources have no rows in the view patient_versions",
    ),
    warning("ViewFilesLeftOut", "1 files of the folder of views were left out"),
    warning(
        "SubscriptionNotActive",
        "of the installation default is off or in error",
    ),
    warning("SubscriptionSilent", "no webhooks of Patient though it changes"),
    critical("TailStuck", "HAPI's committed changes were last read"),
    critical(
        "ReadingsKeptPastTheirTime",
        "readings of Patient are older than their time to live",
    ),
    warning("DeadLetters", "Webhooks were refused as wrong in themselves"),
    critical(
        "RedisNotDurable",
        "Redis is away, or would lose what is acknowledged",
    ),
    warning("RedisNearlyFull", "Readings leave Redis early"),
    warning(
        "NoBackupOfTheSpeedLayer",
        "The newest backup of the speed layer is 4h",
    ),
    warning("BackupsFail", "Backups of the speed layer fail"),
    critical("ViewsDatabaseAway", "does not answer any gateway"),
    warning("ReadReplicaNotAsked", "The read server replica-1 is away"),
    critical("MergerStuck", "No gateway applies live changes"),
    warning("MergeFails", "Live changes could not be applied"),
    warning("LayerUnreachable", "do not reach the speed layer"),
    warning("LayerUnreachable", "do not reach the batch layer"),
    critical("ErrorRate", "of gRPC calls fail"),
    critical("ErrorRate", "of HTTP requests fail"),
    warning("LiveChangesSlow", "until they are visible (p99)"),
    critical("DaemonDown", "No speed-ingestor is running"),
    warning("ReplicaDown", "A replica of speed-ingestor does not answer"),
    warning(
        "CertificateEndsSoon",
        "A certificate of speed-ingestor (grpc) ends in",
    ),
    warning(
        "CertificateNotTaken",
        "speed-ingestor (grpc) cannot use its changed files of TLS",
    ),
    critical("AuditFails", "serving-gateway cannot write its audit"),
    critical("AuditLost", "serving-gateway has lost records of its audit"),
];

fn rules() -> anyhow::Result<String> {
    Ok(std::fs::read_to_string(
        project_folder().join("deploy/prometheus/rules/researchflow.yml"),
    )?)
}

#[test]
fn every_rule_is_in_the_list() -> anyhow::Result<()> {
    let known: Vec<&str> = ALL.iter().map(|told| told.alert).collect();
    assert_eq!(scaled::alerts(&rules()?), known);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provoked_faults_are_told_in_slack() -> anyhow::Result<()> {
    let all = std::env::var("ALERTS").is_ok_and(|which| which == "all");
    let mut watched = Watched::start().await?;
    let provoked = if all {
        faults::all(&mut watched).await
    } else {
        faults::some(&mut watched).await
    };
    let messages = watched.slack.messages();
    for message in &messages {
        println!(
            "{}: {}",
            message.title,
            message.text.lines().next().unwrap_or_default()
        );
        assert!(!message.whole.contains(CANARY), "{}", message.whole);
    }
    provoked?;
    let mut seen = BTreeSet::new();
    for told in ALL {
        let fires = |message: &&Message| {
            !message.title.starts_with("Over: ")
                && message.title.contains(told.alert)
                && message.text.contains(told.words)
        };
        let Some(message) = messages.iter().find(fires) else {
            continue;
        };
        seen.insert((told.alert, told.words));
        let (color, channel) = if told.critical {
            ("danger", "#researchflow-alerts")
        } else {
            ("warning", "#researchflow-notices")
        };
        assert_eq!(
            (message.color.as_str(), message.channel.as_str()),
            (color, channel),
            "{message:?}"
        );
        assert_eq!(
            message.title.starts_with("CRITICAL: "),
            told.critical,
            "{message:?}"
        );
        let runbook = format!("What to do: docs/operations.md#{}", told.alert.to_lowercase());
        assert!(message.text.contains(&runbook), "{message:?}");
    }
    let expected = if all { ALL.len() } else { faults::SOME };
    assert!(seen.len() >= expected, "{seen:?}");
    Ok(())
}
