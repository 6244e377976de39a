//! Into a bucket of a real server of S3's API, and back.

use e2e::s3::S3;
use speed_ingestor::backup::{BackupError, TargetSettings};

use super::*;

#[tokio::test]
async fn a_bucket_gives_back_the_same_state() {
    let (ingestor, s3) = (ingestor().await, S3::start().await.unwrap());
    s3.make_bucket("bucket").await.unwrap();
    fill(&ingestor).await;
    // More than a part: so the object is uploaded, and read, in parts.
    fill_with_megabytes(&ingestor, 24).await;
    let backups = backups(&ingestor, s3.target("s3://bucket/site-1/speed/"));
    let before = contents(&ingestor.redis).await;
    let (manifest, _) = backups.back_up().await.unwrap();
    assert!(manifest.bytes() > 12 << 20, "{}", manifest.bytes());
    let name = &manifest.name;
    let keys = [
        "Condition.ndjson.gz",
        "Observation.ndjson.gz",
        "Patient.ndjson.gz",
        "manifest.json",
    ];
    let keys = keys.map(|key| format!("site-1/speed/{name}/{key}"));
    assert_eq!(s3.keys("bucket").await.unwrap(), keys);
    assert!(s3.uploads("bucket").await.unwrap().is_empty());
    wipe(&ingestor.redis).await;
    offer(&ingestor, "Patient", &[reading(state("p3", 9), MARK + 20)]).await;
    let restored = backups.restore(None).await.unwrap();
    let patient = restored.types.last().unwrap();
    assert_eq!((patient.restored, patient.newer), (1_226, 1));
    assert_eq!(held(&ingestor, "p3").await, Some((9, MARK + 20)));
    ingestor.store.release("Patient", 400, now()).await.unwrap();
    let mut after = contents(&ingestor.redis).await;
    for changed in [
        "fhir:Patient:p3",
        "fhir:held:Patient",
        "fhir:recent:Patient",
        "fhir:covered:Patient",
    ] {
        after.insert(changed.into(), before[changed].clone());
    }
    assert_same(&after, &before, "");

    // The same in a bucket as in a folder: one bit, and nothing is written.
    let object = s3.get("bucket", &keys[2]).await.unwrap();
    let mut bytes = object.bytes().await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    s3.put("bucket", &keys[2], bytes).await.unwrap();
    wipe(&ingestor.redis).await;
    let error = backups.restore(None).await.unwrap_err();
    assert!(matches!(error, BackupError::Damaged { .. }), "{error}");
    assert!(contents(&ingestor.redis).await.is_empty());
}

#[tokio::test]
async fn objects_are_encrypted_with_a_key_of_kms_where_one_is_named() {
    let (ingestor, s3) = (ingestor().await, S3::start().await.unwrap());
    s3.make_bucket("bucket").await.unwrap();
    offer(&ingestor, "Patient", &[reading(state("a", 5), 50)]).await;
    let mut target = s3.target("s3://bucket");
    let plain = backups(&ingestor, target.clone()).back_up().await.unwrap().0.name;
    target.s3.kms_key_id = "key-1".into();
    let encrypted = backups(&ingestor, target.clone()).back_up().await.unwrap().0.name;
    for object in ["Patient.ndjson.gz", "manifest.json"] {
        for (name, encryption) in [(&plain, None), (&encrypted, Some("aws:kms"))] {
            let answer = s3.get("bucket", &format!("{name}/{object}")).await.unwrap();
            let found = answer.headers().get("x-amz-server-side-encryption");
            assert_eq!(found.map(|of| of.to_str().unwrap()), encryption, "{object}");
        }
    }
    wipe(&ingestor.redis).await;
    assert_eq!(
        backups(&ingestor, target).restore(None).await.unwrap().name,
        encrypted
    );
    assert_eq!(held(&ingestor, "a").await, Some((5, 50)));
}

#[tokio::test]
async fn an_upload_that_is_cut_leaves_the_older_backup() {
    let (ingestor, s3) = (ingestor().await, S3::start().await.unwrap());
    s3.make_bucket("bucket").await.unwrap();
    offer(&ingestor, "Patient", &[reading(state("a", 5), 50)]).await;
    let backups = backups(&ingestor, s3.target("s3://bucket"));
    let (older, _) = backups.back_up().await.unwrap();
    fill_with_megabytes(&ingestor, 40).await;
    let begun = async {
        while s3.uploads("bucket").await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        done = backups.back_up() => panic!("it was to be cut: {:?}", done.map(|(manifest, _)| manifest.name)),
        () = begun => {}
    }
    let keys = s3.keys("bucket").await.unwrap();
    assert!(
        keys.iter().any(|key| !key.starts_with(&older.name)),
        "a part of it is there: {keys:?}"
    );
    let listed = backups.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    wipe(&ingestor.redis).await;
    assert_eq!(backups.restore(None).await.unwrap().name, older.name);
    assert_eq!(held(&ingestor, "a").await, Some((5, 50)));
}

#[tokio::test]
async fn a_place_that_is_away_is_said_without_secrets_and_harms_nothing() {
    let (ingestor, mut s3) = (ingestor().await, S3::start().await.unwrap());
    offer(&ingestor, "Patient", &[reading(state("a", 5), 50)]).await;
    // No such bucket.
    let target = s3.target("s3://bucket");
    said(backups(&ingestor, target.clone()).back_up().await.unwrap_err());
    s3.kill9();
    said(backups(&ingestor, target.clone()).back_up().await.unwrap_err());
    said(
        backups(&ingestor, target.clone())
            .restore(None)
            .await
            .unwrap_err(),
    );
    let folder = TargetSettings {
        url: "file:///proc/nowhere".into(),
        ..target
    };
    said(backups(&ingestor, folder).back_up().await.unwrap_err());
    assert_eq!(held(&ingestor, "a").await, Some((5, 50)));
}

fn said(error: BackupError) {
    let error = api::ServiceError::from(error);
    assert_eq!(error.code, api::Code::Unavailable, "{error}");
    assert!(error.message.contains("backup.url"), "{error}");
    assert!(
        !error.message.contains("test-secret") && !error.message.contains('<'),
        "{error}"
    );
}
