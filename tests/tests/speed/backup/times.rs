//! On a schedule.

use std::sync::Arc;

use daemon::SystemClock;
use speed_ingestor::backup::Schedule;

use super::*;

#[tokio::test]
async fn backups_come_by_themselves_and_of_several_ingestors_one_makes_each() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    fill(&ingestor).await;
    let schedule = Schedule::every(Duration::from_secs(2));
    let all: Vec<_> = (0..3)
        .map(|_| {
            let target = folder_target(folder.path());
            backups_with(&ingestor, target, schedule.clone(), 100, Arc::new(SystemClock))
        })
        .collect();
    for backups in &all {
        ingestor
            .shutdown
            .spawn(backups.clone().run(ingestor.shutdown.clone()));
    }
    let names = e2e::deadline::until("three backups", SOON, async || {
        let listed = all[0].list().await.unwrap();
        (listed.len() >= 3).then(|| listed.iter().map(|listed| listed.name.at()).collect::<Vec<_>>())
    })
    .await
    .unwrap();
    for pair in names.windows(2) {
        assert!(pair[0] - pair[1] >= chrono::TimeDelta::seconds(2), "{names:?}");
    }
    // Those that were not first know of it, too.
    e2e::deadline::until("all to know the newest", SOON, async || {
        let all = all.iter().map(speed_ingestor::backup::Backups::last);
        let mut known = all.map(|last| last.backup.is_some() && last.next.is_some() && last.error.is_none());
        known.all(|known| known).then_some(())
    })
    .await
    .unwrap();
}
