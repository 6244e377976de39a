//! The protocol's rules: marks, lives, numbers, and what the batch has covered meanwhile.

use std::sync::Arc;

use api::{Code, ServiceError};
use chrono::TimeDelta;
use daemon::SystemClock;
use fhir_core::merge::Position;
use speed_ingestor::{
    backup::{BackupError, Backups, Schedule},
    store::StoreError,
};

use super::*;

async fn marks(ingestor: &Ingestor) -> Vec<Option<Position>> {
    let types = ["Condition", "Observation", "Patient"].map(str::to_owned);
    ingestor.store.marks(&types).await.unwrap()
}

#[tokio::test]
async fn marks_are_saved_before_the_readings_and_are_not_put_back() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    offer(&ingestor, "Patient", &[reading(state("a", 5), 50)]).await;
    let backups = backups(&ingestor, folder_target(folder.path()));
    let (manifest, _) = backups.back_up().await.unwrap();
    for of in &manifest.types {
        let mark: Position = of.mark.clone().unwrap().into();
        assert_eq!(mark, position(MARK));
    }
    wipe(&ingestor.redis).await;
    backups.restore(None).await.unwrap();
    assert_eq!(marks(&ingestor).await, [None, None, None]);
    // A mark that is there stays.
    set_marks(&ingestor, 950).await;
    backups.restore(None).await.unwrap();
    assert!(
        marks(&ingestor)
            .await
            .iter()
            .all(|mark| *mark == Some(position(950)))
    );
}

#[tokio::test]
async fn a_mark_that_comes_meanwhile_is_not_of_the_backup() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    fill(&ingestor).await;
    fill_with_megabytes(&ingestor, 24).await;
    let backups = backups(&ingestor, folder_target(folder.path()));
    let meanwhile = async {
        first_object(folder.path()).await;
        set_marks(&ingestor, 950).await;
    };
    let (made, ()) = tokio::join!(backups.back_up(), meanwhile);
    for of in made.unwrap().0.types {
        assert_eq!(Position::from(of.mark.unwrap()).n, MARK, "{}", of.resource_type);
    }
}

/// The first object is there, the last one not yet.
async fn first_object(folder: &Path) {
    loop {
        let begun = std::fs::read_dir(folder).unwrap().next();
        if let Some(begun) = begun {
            let begun = begun.unwrap().path();
            if begun.join("Condition.ndjson.gz").exists() {
                assert!(
                    !begun.join("Patient.ndjson.gz").exists(),
                    "too late for this test"
                );
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_was_committed_since_and_covered_by_the_batch_is_read_again() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    offer(
        &ingestor,
        "Patient",
        &[reading(state("a", 5), 50), reading(state("b", 5), 50)],
    )
    .await;
    let backups = backups(&ingestor, folder_target(folder.path()));
    backups.back_up().await.unwrap();
    // Version 6 of "a" came, the batch covered it, and Redis was lost: the tail's own rounds begin after it.
    wipe(&ingestor.redis).await;
    ingestor.hapi.finds(&[]);
    ingestor.hapi.published(NOW - 50);
    ingestor.tail.finish_one().await;
    ingestor.hapi.finds_when_read_again(&[state("a", 6)]);
    let restored = backups.restore(None).await.unwrap();
    assert_eq!(restored.types.last().unwrap().caught_up, 1);
    let since = ["Condition", "Observation", "Patient"].map(|of| (of.to_owned(), position(MARK)));
    assert_eq!(ingestor.hapi.reread(), [since.to_vec()]);
    let recent = recent(&ingestor.store, "Patient", chrono::DateTime::UNIX_EPOCH).await;
    let recent: Vec<_> = recent
        .iter()
        .map(|r| (r.state.id.as_str(), r.state.version))
        .collect();
    assert_eq!(recent, [("a", 6), ("b", 5)]);
    assert_eq!(marks(&ingestor).await, [None, None, None]);
}

#[tokio::test]
async fn when_it_cannot_be_read_again_that_is_said() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    offer(&ingestor, "Patient", &[reading(state("a", 5), 50)]).await;
    let backups = backups(&ingestor, folder_target(folder.path()));
    backups.back_up().await.unwrap();
    wipe(&ingestor.redis).await;
    ingestor.hapi.fails(true);
    let error = backups.restore(None).await.unwrap_err();
    assert!(matches!(error, BackupError::NotCaughtUp(_)), "{error}");
    assert_eq!(ServiceError::from(error).code, Code::Unavailable);
    ingestor.hapi.fails(false);
    let again = backups.restore(None).await.unwrap();
    assert_eq!(again.types.last().unwrap().same, 1);
}

async fn refused(backups: &Backups, ingestor: &Ingestor, says: &str) {
    let error = backups.restore(None).await.unwrap_err();
    assert!(
        matches!(error, BackupError::Foreign(_)) && error.to_string().contains(says),
        "{error}"
    );
    assert_eq!(ServiceError::from(error).code, Code::Precondition);
    assert!(contents(&ingestor.redis).await.is_empty());
}

#[tokio::test]
async fn numbers_that_mean_something_else_are_not_put_back() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    let elsewhere = Position {
        timeline: "7300/2".into(),
        ..position(MARK)
    };
    let life = ingestor.store.life().await.unwrap();
    ingestor
        .store
        .set_marks(&life, &[("Patient", &elsewhere)])
        .await
        .unwrap();
    offer(&ingestor, "Patient", &[reading(state("a", 5), 50)]).await;
    let one = backups(&ingestor, folder_target(&folder.path().join("timeline")));
    one.back_up().await.unwrap();
    wipe(&ingestor.redis).await;
    refused(&one, &ingestor, "another one").await;

    // The views' database was made anew: numbers begin again.
    set_marks(&ingestor, MARK).await;
    offer(&ingestor, "Patient", &[reading(state("a", 5), NOW * 1_000)]).await;
    let other = backups(&ingestor, folder_target(&folder.path().join("numbers")));
    other.back_up().await.unwrap();
    wipe(&ingestor.redis).await;
    ingestor.hapi.concludes_nothing(false);
    refused(&other, &ingestor, "higher numbers").await;
}

#[tokio::test]
async fn a_backup_of_which_nothing_could_be_promised_is_not_made() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    wipe(&ingestor.redis).await;
    let backups = backups(&ingestor, folder_target(folder.path()));
    let error = backups.back_up().await.unwrap_err();
    assert!(matches!(error, BackupError::TooEarly(_)), "{error}");
}

#[tokio::test]
async fn a_redis_that_is_emptied_meanwhile_makes_no_backup() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    fill(&ingestor).await;
    fill_with_megabytes(&ingestor, 24).await;
    let backups = backups(&ingestor, folder_target(folder.path()));
    let emptied = async {
        // The marks were read by then.
        first_object(folder.path()).await;
        ingestor.store.flush(&["Condition".into()]).await.unwrap();
    };
    let (made, ()) = tokio::join!(backups.back_up(), emptied);
    let error = made.unwrap_err();
    assert!(
        matches!(error, BackupError::Store(StoreError::Restarted)),
        "{error}"
    );
    assert!(backups.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_covered_and_past_its_time_is_not_put_back() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    let long_ago = now() - TimeDelta::hours(25);
    let offer_long_ago = [reading(state("a", 5), 50), reading(state("b", 5), 60)];
    ingestor
        .store
        .offer_readings(None, "Patient", &offer_long_ago, long_ago)
        .await
        .unwrap();
    let backups = backups_with(
        &ingestor,
        folder_target(folder.path()),
        Schedule::OnDemand,
        3,
        Arc::new(SystemClock),
    );
    backups.back_up().await.unwrap();
    wipe(&ingestor.redis).await;
    ingestor.hapi.published(55);
    ingestor.tail.finish_one().await;
    let restored = backups.restore(None).await.unwrap();
    let patient = restored.types.last().unwrap();
    assert_eq!((patient.restored, patient.expired), (1, 1));
    assert_eq!(held(&ingestor, "a").await, None);
    assert_eq!(
        held(&ingestor, "b").await,
        Some((5, 60)),
        "not covered: it stays whatever its age"
    );
}

#[tokio::test]
async fn a_type_that_no_view_needs_now_is_left_out() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    fill(&ingestor).await;
    let backups = backups(&ingestor, folder_target(folder.path()));
    backups.back_up().await.unwrap();
    wipe(&ingestor.redis).await;
    ingestor.needed.set(vec!["Condition".into()]);
    let restored = backups.restore(None).await.unwrap();
    let counts: Vec<_> = restored
        .types
        .iter()
        .map(|of| (of.resource_type.as_str(), of.restored, of.not_needed))
        .collect();
    assert_eq!(
        counts,
        [("Condition", 2, 0), ("Observation", 0, 0), ("Patient", 0, 1_203)]
    );
    assert_eq!(held(&ingestor, "p1").await, None);
}
