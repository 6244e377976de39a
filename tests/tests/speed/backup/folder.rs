//! Into a folder and back.

use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Arc};

use chrono::{TimeDelta, Utc};
use daemon::ManualClock;
use speed_ingestor::backup::{BackupError, BackupName, Schedule};

use super::*;

#[tokio::test]
async fn after_a_wipe_the_same_state_is_there() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    fill(&ingestor).await;
    let backups = backups(&ingestor, folder_target(folder.path()));
    let before = contents(&ingestor.redis).await;
    let (manifest, _) = backups.back_up().await.unwrap();
    assert_eq!(manifest.readings(), 1_205);
    assert_same(
        &contents(&ingestor.redis).await,
        &before,
        "a backup changes nothing",
    );

    wipe(&ingestor.redis).await;
    let restored = backups.restore(None).await.unwrap();
    assert_eq!(restored.name, manifest.name);
    let counts: Vec<_> = restored
        .types
        .iter()
        .map(|of| {
            (
                of.resource_type.as_str(),
                of.restored,
                of.newer + of.same + of.expired,
            )
        })
        .collect();
    assert_eq!(
        counts,
        [("Condition", 2, 0), ("Observation", 0, 0), ("Patient", 1_203, 0)]
    );
    // What the batch has covered leaves with its next watermark, at the time at which it would have left.
    ingestor.store.release("Patient", 400, now()).await.unwrap();
    assert_same(&contents(&ingestor.redis).await, &before, "");

    let again = backups.restore(Some(&manifest.name)).await.unwrap();
    assert!(again.types.iter().all(|of| of.restored == 0));
    assert_eq!(again.types.iter().map(|of| of.same).sum::<u64>(), 1_205);
    assert_same(&contents(&ingestor.redis).await, &before, "");
}

#[tokio::test]
async fn what_is_newer_is_untouched_and_what_is_older_is_replaced() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    offer(
        &ingestor,
        "Patient",
        &[
            reading(state("a", 5), 50),
            reading(state("b", 5), 50),
            reading(state("c", 5), 50),
            reading(deleted("d", 5), 50),
        ],
    )
    .await;
    let backups = backups(&ingestor, folder_target(folder.path()));
    backups.back_up().await.unwrap();
    wipe(&ingestor.redis).await;
    // By number, not by version: "a" was re-created from version 1.
    offer(
        &ingestor,
        "Patient",
        &[
            reading(state("a", 1), 60),
            reading(state("b", 9), 40),
            reading(state("d", 6), 51),
        ],
    )
    .await;
    let restored = backups.restore(None).await.unwrap();
    let patient = restored.types.last().unwrap();
    assert_eq!((patient.restored, patient.newer, patient.same), (2, 2, 0));
    assert_eq!(held(&ingestor, "a").await, Some((1, 60)));
    assert_eq!(held(&ingestor, "b").await, Some((5, 50)));
    assert_eq!(held(&ingestor, "c").await, Some((5, 50)));
    assert_eq!(held(&ingestor, "d").await, Some((6, 51)));
}

#[tokio::test]
async fn what_is_damaged_in_any_way_is_refused_and_nothing_is_written() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    fill(&ingestor).await;
    let backups = backups(&ingestor, folder_target(folder.path()));
    let (manifest, _) = backups.back_up().await.unwrap();
    wipe(&ingestor.redis).await;
    offer(&ingestor, "Patient", &[reading(state("p1", 9), 3)]).await;
    let before = contents(&ingestor.redis).await;

    let refused = async |what: &str| {
        let error = backups.restore(Some(&manifest.name)).await.unwrap_err();
        assert!(matches!(error, BackupError::Damaged { .. }), "{what}: {error}");
        assert_eq!(api::ServiceError::from(error).code, api::Code::DataLoss);
        assert_same(&contents(&ingestor.redis).await, &before, what);
    };
    // The last type's object: the ones before it are right.
    let object = folder.path().join(&manifest.name).join("Patient.ndjson.gz");
    let right = std::fs::read(&object).unwrap();
    for place in [0, right.len() / 2, right.len() - 1] {
        let mut damaged = right.clone();
        damaged[place] ^= 0x10;
        std::fs::write(&object, damaged).unwrap();
        refused(&format!("a bit at {place}")).await;
    }
    std::fs::write(&object, &right[..right.len() / 2]).unwrap();
    refused("a half").await;
    std::fs::write(&object, [&right[..], &right[..]].concat()).unwrap();
    refused("twice").await;
    let condition = folder.path().join(&manifest.name).join("Condition.ndjson.gz");
    std::fs::copy(&condition, &object).unwrap();
    refused("another type's").await;
    std::fs::remove_file(&object).unwrap();
    refused("none").await;
    std::fs::write(&object, &right).unwrap();
    let manifest_file = folder.path().join(&manifest.name).join("manifest.json");
    let sealed = std::fs::read_to_string(&manifest_file).unwrap();
    std::fs::write(&manifest_file, sealed.replace("\"n\":900", "\"n\":901")).unwrap();
    refused("a changed manifest").await;
    let listed = backups.list().await.unwrap();
    assert!(listed[0].manifest.as_ref().unwrap_err().contains("manifest.json"));

    std::fs::write(&manifest_file, sealed).unwrap();
    let restored = backups.restore(Some(&manifest.name)).await.unwrap();
    assert_eq!(restored.types.last().unwrap().restored, 1_202);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn an_interrupted_backup_leaves_the_older_one_and_is_cleared_away_after_a_day() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    offer(&ingestor, "Patient", &[reading(state("a", 5), 50)]).await;
    let start: chrono::DateTime<Utc> = "2026-11-28T03:00:00Z".parse().unwrap();
    let clock = ManualClock::new(start);
    let backups = backups_with(
        &ingestor,
        folder_target(folder.path()),
        Schedule::OnDemand,
        10,
        Arc::new(clock.clone()),
    );
    let (older, _) = backups.back_up().await.unwrap();
    // Cut while the second object is being written: the first one is there, the second one a part.
    fill_with_megabytes(&ingestor, 40).await;
    clock.set(start + TimeDelta::hours(1));
    let half = async {
        loop {
            let staged = files(folder.path()).iter().any(|backup| {
                files(backup).iter().any(|file| {
                    file.to_string_lossy().contains('#') && file.metadata().is_ok_and(|of| of.len() > 1 << 20)
                })
            });
            if staged {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        done = backups.back_up() => panic!("it was to be cut: {:?}", done.map(|(manifest, _)| manifest.name)),
        () = half => {}
    }
    let begun = files(folder.path());
    assert_eq!(begun.len(), 2);
    let left = files(&begun[1]);
    // (On a busy machine the second one may have become whole before it was cut.)
    assert!(
        left.len() >= 2 && !left.iter().any(|file| file.ends_with("manifest.json")),
        "{left:?}"
    );
    // One whose objects are whole but for the manifest.
    let without = folder
        .path()
        .join(BackupName::new(start + TimeDelta::hours(2), "0123456789abcdef").as_str());
    std::fs::create_dir(&without).unwrap();
    for file in files(&begun[0])
        .iter()
        .filter(|file| !file.ends_with("manifest.json"))
    {
        std::fs::copy(file, without.join(file.file_name().unwrap())).unwrap();
    }

    let listed = backups.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].name.as_str(), older.name);
    wipe(&ingestor.redis).await;
    assert_eq!(backups.restore(None).await.unwrap().name, older.name);
    assert_eq!(held(&ingestor, "a").await, Some((5, 50)));

    // The lock of the one that was cut is over after a minute; here it went with the wipe.
    set_marks(&ingestor, MARK).await;
    clock.set(start + TimeDelta::hours(24));
    backups.back_up().await.unwrap();
    assert_eq!(files(folder.path()).len(), 4, "they may still be under way");
    clock.set(start + TimeDelta::hours(27));
    backups.back_up().await.unwrap();
    assert_eq!(files(folder.path()).len(), 3);
    assert!(!begun[1].exists() && !without.exists());
    assert_eq!(backups.list().await.unwrap().len(), 3);
}

#[tokio::test]
async fn the_newest_are_kept_and_what_is_no_backup_is_left_alone() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    offer(&ingestor, "Patient", &[reading(state("a", 5), 50)]).await;
    let start: chrono::DateTime<Utc> = "2026-11-28T03:00:00Z".parse().unwrap();
    let clock = ManualClock::new(start);
    let target = folder_target(&folder.path().join("deep/er"));
    let backups = backups_with(&ingestor, target, Schedule::OnDemand, 2, Arc::new(clock.clone()));
    let place = folder.path().join("deep/er");
    let mut names = Vec::new();
    for hour in 0..5 {
        clock.set(start + TimeDelta::hours(hour));
        names.push(backups.back_up().await.unwrap().0.name);
        if hour == 0 {
            std::fs::create_dir(place.join("other")).unwrap();
            std::fs::write(place.join("other/file"), "x").unwrap();
            std::fs::write(place.join("20200101T000000000Z-notes"), "x").unwrap();
        }
    }
    let listed: Vec<String> = backups
        .list()
        .await
        .unwrap()
        .iter()
        .map(|listed| listed.name.to_string())
        .collect();
    assert_eq!(listed, [names[4].clone(), names[3].clone()]);
    assert_eq!(files(&place).len(), 4);
    assert!(place.join("other/file").exists());
    let error = backups.restore(Some(&names[0])).await.unwrap_err();
    assert!(matches!(error, BackupError::Unknown(_)), "{error}");
    assert_eq!(
        place.metadata().unwrap().permissions().mode() & 0o77,
        0,
        "nobody else may look"
    );
}

#[tokio::test]
async fn one_at_a_time_backs_up_or_restores() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    fill(&ingestor).await;
    let one = backups(&ingestor, folder_target(folder.path()));
    let other = backups(&ingestor, folder_target(folder.path()));
    let (a, b) = tokio::join!(one.back_up(), other.back_up());
    assert!(matches!(
        (&a, &b),
        (Ok(_), Err(BackupError::Busy)) | (Err(BackupError::Busy), Ok(_))
    ));
    assert_eq!(one.list().await.unwrap().len(), 1);
    let (a, b) = tokio::join!(one.restore(None), other.back_up());
    assert!(a.is_ok() != b.is_ok());
    // The lock was given back.
    other.back_up().await.unwrap();
}
