//! An issuer changes its keys while calls go on, as issuers do: the new one is published first, then signs, then the old one goes. No call fails.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use api::proto::serving::serving_service_client::ServingServiceClient;
use e2e::{
    ask::count_of,
    deadline::until,
    house::view_of,
    issuer::{Kind, SigningKey},
};
use tonic::Code;

use crate::whole::{Whole, with_token};

const PATIENCE: Duration = Duration::from_secs(30);
const ROUNDS: usize = 3;
const CALLERS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuers_keys_are_changed_under_load_without_a_failed_call() -> anyhow::Result<()> {
    let whole = Whole::start().await?;
    let client = ServingServiceClient::new(whole.channel("ServingService").await?);
    let claims = whole.claims("system/Patient.rs");
    let token = Arc::new(Mutex::new(whole.key.token(&claims)));
    let (calls, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (client, token, calls, over) = (client.clone(), token.clone(), calls.clone(), over.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let shown = token.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    let query = with_token(count_of(&view_of("Patient")), &shown);
                    let mut stream = client.clone().query(query).await?.into_inner();
                    while stream.message().await?.is_some() {}
                    calls.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<_, tonic::Status>(())
            })
        })
        .collect();
    let further = async |count: usize| {
        let from = calls.load(Ordering::Relaxed);
        until("further calls", PATIENCE, || async {
            (calls.load(Ordering::Relaxed) >= from + count).then_some(())
        })
        .await
    };
    let keys: Vec<SigningKey> = (0..ROUNDS)
        .map(|round| SigningKey::new(Kind::ALL[round % Kind::ALL.len()], &format!("of-round-{round}")))
        .collect();
    let chain: Vec<&SigningKey> = std::iter::once(&whole.key).chain(&keys).collect();
    for pair in chain.windows(2) {
        let (before, new) = (pair[0], pair[1]);
        let old = before.token(&claims);
        further(20).await?;
        // Published, then used, then alone.
        whole.issuer.publish(&[before, new]);
        *token.lock().unwrap_or_else(PoisonError::into_inner) = new.token(&claims);
        further(20).await?;
        whole.issuer.publish(&[new]);
        // What the old key has signed no longer counts.
        until("the old key is gone", PATIENCE, || async {
            let query = with_token(count_of(&view_of("Patient")), &old);
            let refused = client.clone().query(query).await.err()?;
            (refused.code() == Code::Unauthenticated).then_some(())
        })
        .await?;
        further(20).await?;
    }
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller
            .await?
            .map_err(|status| anyhow::anyhow!("a call failed: {status:?}"))?;
    }
    let calls = calls.load(Ordering::Relaxed);
    println!("{calls} calls over {ROUNDS} changes of keys, none failed");
    Ok(())
}
