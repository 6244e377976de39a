//! As operators use it: over gRPC.

use api::proto::speed as proto;
use tonic::Code;

use super::*;
use crate::service::serve_with;

#[tokio::test]
async fn backup_list_restore_and_status() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    fill(&ingestor).await;
    let mut client = serve_with(&ingestor, Some(backups(&ingestor, folder_target(folder.path())))).await;
    let restore = |name: &str, confirm: &str| proto::RestoreRequest {
        name: name.into(),
        confirm: confirm.into(),
    };
    let none = client.restore(restore("", "restore")).await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
    let made = client.backup(proto::BackupRequest {}).await.unwrap().into_inner();
    let backup = made.backup.unwrap();
    assert_eq!(backup.readings, 1_205);
    assert!(backup.bytes > 1_000 && made.seconds > 0.0);
    let listed = client
        .list_backups(proto::ListBackupsRequest {})
        .await
        .unwrap()
        .into_inner()
        .backups;
    assert_eq!(listed, std::slice::from_ref(&backup));
    assert_eq!(listed[0].types[2].mark.as_ref().unwrap().n, MARK);

    wipe(&ingestor.redis).await;
    let unsure = client.restore(restore("", "yes")).await.unwrap_err();
    assert_eq!(unsure.code(), Code::InvalidArgument);
    assert!(unsure.message().contains("confirm"), "{}", unsure.message());
    for unknown in ["../../etc", "20200101T000000000Z-0123456789abcdef"] {
        let unknown = client.restore(restore(unknown, "restore")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    }
    let restored = client
        .restore(restore(&backup.name, "restore"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (restored.restored, restored.newer, restored.types.len()),
        (1_205, 0, 3)
    );

    let status = client
        .get_status(proto::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner()
        .backups
        .unwrap();
    assert_eq!(status.last.unwrap().name, backup.name);
    assert!(status.url.starts_with("file://") && status.error.is_empty());

    let object = folder.path().join(&backup.name).join("Patient.ndjson.gz");
    std::fs::write(&object, "something else").unwrap();
    let damaged = client.restore(restore("", "restore")).await.unwrap_err();
    assert_eq!(damaged.code(), Code::DataLoss);
}

#[tokio::test]
async fn where_none_are_kept_it_is_said_what_to_set() {
    let ingestor = ingestor().await;
    let mut client = serve_with(&ingestor, None).await;
    let status = client.backup(proto::BackupRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("backup.url"), "{}", status.message());
    let status = client
        .list_backups(proto::ListBackupsRequest {})
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let status = client.get_status(proto::GetStatusRequest {}).await.unwrap();
    assert!(status.into_inner().backups.is_none());
}

#[tokio::test]
async fn a_backup_goes_on_if_the_caller_leaves() {
    let (ingestor, folder) = (ingestor().await, tempfile::tempdir().unwrap());
    fill(&ingestor).await;
    fill_with_megabytes(&ingestor, 16).await;
    let backups = backups(&ingestor, folder_target(folder.path()));
    let mut client = serve_with(&ingestor, Some(backups.clone())).await;
    let impatient = tokio::time::timeout(Duration::from_millis(30), client.backup(proto::BackupRequest {}));
    assert!(impatient.await.is_err());
    drop(client);
    e2e::deadline::until("the backup", SOON, async || {
        (backups.list().await.unwrap().len() == 1).then_some(())
    })
    .await
    .unwrap();
}
