//! Certificates, keys and authorities are exchanged while questions are asked: none fails.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use e2e::{
    ask::{Asker, all_of},
    certificates::{Authority, Pair},
    deadline::until,
};

use crate::installation::{Files, Installation, LIMIT, OPERATOR, http_client, secured};

/// What a caller of HTTP trusts and shows: exchanged with the daemons' files.
type Shown = Arc<Mutex<(String, Pair)>>;

/// Those who ask, without end.
struct Load {
    stop: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    failed: Arc<Mutex<Vec<String>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn new() -> Self {
        Self {
            stop: Arc::default(),
            asked: Arc::default(),
            failed: Arc::default(),
            tasks: Vec::new(),
        }
    }

    fn add<F>(&mut self, what: &'static str, ask: impl Fn() -> F + Send + 'static)
    where
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let (stop, asked, failed) = (self.stop.clone(), self.asked.clone(), self.failed.clone());
        self.tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                if let Err(error) = ask().await {
                    let mut failed = failed.lock().expect("no panic");
                    failed.push(format!("{what}: {error:#}"));
                }
                asked.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }

    /// Waits for so many questions more.
    async fn go_on(&self, more: usize) -> anyhow::Result<()> {
        let from = self.asked.load(Ordering::Relaxed);
        let done = || async { (self.asked.load(Ordering::Relaxed) >= from + more).then_some(()) };
        until("questions to be answered", LIMIT, done).await
    }

    async fn end(mut self) -> anyhow::Result<Vec<String>> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await?;
        }
        let failed = self.failed.lock().expect("no panic");
        Ok(failed.clone())
    }
}

/// One question; a call that was never sent is made again, as clients of gRPC do (docs/grpc.md).
async fn asked(asker: &Asker) -> anyhow::Result<()> {
    let answer = daemon::grpc::sent(|| asker.ask(all_of("patient_versions"))).await?;
    anyhow::ensure!(!answer.rows.is_empty(), "a row is missing");
    Ok(())
}

/// A counter of every endpoint of every daemon and of this program's own, each with its name.
async fn counted(
    installation: &Installation,
    shown: &Shown,
    counter: &str,
) -> anyhow::Result<Vec<(String, u64)>> {
    let (trusted, pair) = shown.lock().expect("no panic").clone();
    let client = http_client(&trusted, Some(&pair))?;
    let mut texts = Vec::new();
    for daemon in installation.daemons() {
        let url = format!("https://{}/metrics", daemon.address("admin")?);
        texts.push(client.get(url).send().await?.error_for_status()?.text().await?);
    }
    texts.push(installation.metrics.encode()?);
    let mut found = Vec::new();
    for text in texts {
        let lines = text.lines().filter(|line| line.starts_with(counter));
        for line in lines {
            let (name, count) = line.rsplit_once(' ').unwrap_or((line, "0"));
            found.push((name.to_owned(), count.parse()?));
        }
    }
    Ok(found)
}

/// Waits until the counter is higher, at every endpoint, than it was.
async fn all_above(
    installation: &Installation,
    shown: &Shown,
    counter: &str,
    before: &[(String, u64)],
) -> anyhow::Result<()> {
    until(counter, LIMIT, || async {
        let now = counted(installation, shown, counter).await.ok()?;
        let above = now.len() == before.len() && now.iter().zip(before).all(|(now, before)| now.1 > before.1);
        above.then_some(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_question_fails_while_certificates_keys_and_authorities_are_exchanged() -> anyhow::Result<()> {
    const RELOADS: &str = "researchflow_tls_reloads_total";
    const FAILURES: &str = "researchflow_tls_reload_failures_total";
    let (old, new) = (Authority::new()?, Authority::new()?);
    let first = Files {
        issuer: &old,
        trusted: old.pem.clone(),
    };
    let mut installation = Installation::start(&first, 0.5).await?;
    installation.sees_live("before").await?;
    let old_pair = old.issue(&[OPERATOR])?;
    let shown: Shown = Arc::new(Mutex::new((old.pem.clone(), old_pair.clone())));
    let mut load = Load::new();
    let asker = installation.asker()?;
    load.add("one channel, whose connections grow old", move || {
        let asker = asker.clone();
        async move { asked(&asker).await }
    });
    let (tls, address) = (
        installation.operator.clone(),
        installation.serving.address("grpc")?,
    );
    load.add("a connection for each question", move || {
        let channel = daemon::grpc::channel(daemon::grpc::Way {
            key: "of the test",
            url: &format!("https://{address}"),
            server_name: "",
            tls: &tls,
        });
        async move {
            let client = api::proto::serving::serving_service_client::ServingServiceClient::new(channel?);
            asked(&Asker { client }).await
        }
    });
    let url = format!("https://{}/metadata", installation.serving.address("http")?);
    let presented = shown.clone();
    load.add("HTTP", move || {
        let (trusted, pair) = presented.lock().expect("no panic").clone();
        let url = url.clone();
        async move {
            let client = http_client(&trusted, Some(&pair))?;
            client.get(url).send().await?.error_for_status()?;
            Ok(())
        }
    });
    load.go_on(50).await?;

    // Keys that belong to other certificates: everything goes on with those from before.
    let (reloads, failures) = (
        counted(&installation, &shown, RELOADS).await?,
        counted(&installation, &shown, FAILURES).await?,
    );
    // Listeners and callers: 2 of batch-refresher, 4 of speed-ingestor, 4 of serving-gateway, this program.
    assert_eq!(failures.len(), 11, "{failures:?}");
    let mut broken = first.all()?;
    for (_, text) in &mut broken {
        if text.contains("PRIVATE KEY") {
            *text = old.issue(&["another"])?.key;
        }
    }
    installation.exchange(&broken)?;
    all_above(&installation, &shown, FAILURES, &failures).await?;
    assert_eq!(counted(&installation, &shown, RELOADS).await?, reloads);
    load.go_on(50).await?;

    // As operators do it: both authorities are trusted, then all show certificates of the new one, then the old one is trusted no more.
    let both = format!("{}{}", old.pem, new.pem);
    let new_pair = new.issue(&[OPERATOR])?;
    for (issuer, trusted, pair) in [
        (&old, &both, &old_pair),
        (&new, &both, &new_pair),
        (&new, &new.pem, &new_pair),
    ] {
        let before = counted(&installation, &shown, RELOADS).await?;
        let trusted = trusted.clone();
        installation.exchange(&Files { issuer, trusted }.all()?)?;
        all_above(&installation, &shown, RELOADS, &before).await?;
        *shown.lock().expect("no panic") = (both.clone(), pair.clone());
        load.go_on(50).await?;
    }
    let failed = load.end().await?;
    assert!(failed.is_empty(), "{failed:?}");

    // The layers have found each other again.
    installation.sees_live("after").await?;
    let retired = installation.caller("retired", &both, Some(&old_pair))?;
    let client = api::proto::serving::serving_service_client::ServingServiceClient::new(secured(
        &installation.serving,
        &retired,
    )?);
    assert!(
        asked(&Asker { client }).await.is_err(),
        "the old authority is still trusted"
    );
    Ok(())
}
