//! Every form in which HAPI stores a version, and what it becomes.

use batch_refresher::hapi::{IdRange, MetaRead};
use batch_refresher::reading::Reading;
use fhir_core::resource::{Content, State};
use tokio_stream::StreamExt as _;

use crate::played::{Played, patient};

/// The states of patients. Whether they are looked up or loaded with all others, they are the same.
async fn states(played: &Played, ids: &[&str]) -> anyhow::Result<Vec<State>> {
    let looked_up = looked_up(played, ids).await?;
    let mut there: Vec<_> = looked_up.iter().filter(|state| state.version > 0).collect();
    there.sort_by(|a, b| a.id.cmp(&b.id));
    let mut loaded = loaded(played).await?;
    loaded.retain(|state| ids.contains(&state.id.as_str()));
    assert_eq!(loaded.iter().collect::<Vec<_>>(), there);
    Ok(looked_up)
}

async fn loaded(played: &Played) -> anyhow::Result<Vec<State>> {
    let hapi = played.hapi().await?;
    let all = IdRange { from: None, to: None };
    let mut found = Vec::new();
    let mut chunks = std::pin::pin!(hapi.load("Patient", all, MetaRead::ALL));
    while let Some(chunk) = chunks.next().await {
        found.extend(chunk?.states());
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

async fn looked_up(played: &Played, ids: &[&str]) -> anyhow::Result<Vec<State>> {
    let hapi = played.hapi().await?;
    let mut open = Reading::begin(&hapi)
        .await?
        .open(&played.store, &["Patient"])
        .await?;
    let mut found = Vec::new();
    let mut chunks = std::pin::pin!(open.states("Patient", ids.iter().map(|id| (*id).to_owned()).collect()));
    while let Some(chunk) = chunks.next().await {
        found.extend(chunk?);
    }
    Ok(found)
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn text(state: &State) -> String {
    match &state.content {
        Content::Body(body) => String::from_utf8_lossy(body).into_owned(),
        other => panic!("{} has no body: {other:?}", state.id),
    }
}

fn row(id: &str) -> String {
    format!("(SELECT res_id FROM hfj_resource WHERE fhir_id = '{id}')")
}

#[tokio::test]
async fn each_encoding_is_read_and_what_cannot_be_is_said() -> anyhow::Result<()> {
    let played = Played::start().await?;
    for id in [
        "inline", "gzip", "object", "external", "expunged", "empty", "deleted",
    ] {
        played.write(id, Some(&patient(id))).await?;
    }
    played.write("expunged", Some(&patient("newer"))).await?;
    played.write("deleted", None).await?;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut gzip, patient("gzip").as_bytes())?;
    let packed = hex(&gzip.finish()?);
    let plain = hex(patient("object").as_bytes());
    for (id, encoding, hex) in [("gzip", "JSONC", packed), ("object", "JSON", plain)] {
        let version = row(id);
        played
            .execute(&format!(
                "UPDATE hfj_res_ver SET res_text_vc = NULL, res_encoding = '{encoding}', res_text = lo_from_bytea(0, '\\x{hex}') WHERE res_id = {version}"
            ))
            .await?;
    }
    played
        .execute(&format!(
            "UPDATE hfj_res_ver SET res_encoding = 'ESR', res_text_vc = 'store:1' WHERE res_id = {}",
            row("external")
        ))
        .await?;
    played
        .execute(&format!(
            "UPDATE hfj_res_ver SET res_text_vc = NULL WHERE res_id = {}",
            row("empty")
        ))
        .await?;
    played
        .execute(&format!(
            "DELETE FROM hfj_res_ver WHERE res_ver = 2 AND res_id = {}",
            row("expunged")
        ))
        .await?;

    let asked = [
        "inline", "gzip", "object", "external", "expunged", "empty", "deleted", "never",
    ];
    let found = states(&played, &asked).await?;
    let by = |id: &str| found.iter().find(|s| s.id == id).unwrap().clone();
    assert_eq!(found.len(), asked.len());
    assert!(text(&by("inline")).contains(r#""family":"inline""#));
    assert!(
        matches!(by("external").content, Content::Unreadable(reason) if reason.contains("external store"))
    );
    assert!(matches!(by("empty").content, Content::Unreadable(_)));
    assert!(by("deleted").is_deleted() && by("deleted").version == 2);
    assert!(by("never").is_deleted() && by("never").version == 0);
    assert_eq!(
        by("expunged").version,
        1,
        "the next lower version counts, as in HAPI"
    );
    assert!(text(&by("expunged")).contains(r#""versionId":"1""#));
    // the role may not read large objects yet: said, and harmless to the others
    assert!(
        matches!(by("gzip").content, Content::Unreadable(reason) if reason.contains("GRANT SELECT ON LARGE OBJECT"))
    );

    played.execute("DO $$ DECLARE o oid; BEGIN FOR o IN SELECT oid FROM pg_largeobject_metadata LOOP EXECUTE format('GRANT SELECT ON LARGE OBJECT %s TO source', o); END LOOP; END $$").await?;
    let found = states(&played, &["gzip", "object"]).await?;
    assert!(text(&found[0]).contains(r#""family":"gzip""#));
    assert!(text(&found[1]).contains(r#""family":"object""#));
    Ok(())
}

#[tokio::test]
async fn id_and_meta_come_from_the_columns_as_hapi_delivers_them() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let stored = r#"{"resourceType":"Patient","meta":{"extension":[{"url":"http://x","valueString":"kept"}]},"gender":"female","multipleBirthInteger":2}"#;
    played.write("probe-e", Some(stored)).await?;
    played
        .execute(&format!(
            "UPDATE hfj_resource SET has_tags = true, res_updated = '2026-11-22 10:19:08.15' WHERE res_id = {r};
             INSERT INTO hfj_tag_def (tag_id, tag_type, tag_system, tag_code, tag_display) VALUES
                 (1, 1, 'profile', 'http://example.org/p1', NULL), (2, 2, 'http://s', 'R', NULL), (3, 0, 'http://t', 'b', NULL), (4, 0, 'http://t', 'a', 'A');
             INSERT INTO hfj_res_tag (pid, tag_id, res_id, res_type) SELECT tag_id, tag_id, {r}, 'Patient' FROM hfj_tag_def",
            r = row("probe-e")
        ))
        .await?;
    let found = states(&played, &["probe-e"]).await?;
    assert_eq!(
        text(&found[0]),
        r##"{"resourceType":"Patient","id":"probe-e","meta":{"extension":[{"url":"http://x","valueString":"kept"}],"versionId":"1","lastUpdated":"2026-11-22T10:19:08.150+00:00","source":"#Rq1","profile":["http://example.org/p1"],"security":[{"system":"http://s","code":"R"}],"tag":[{"system":"http://t","code":"a","display":"A"},{"system":"http://t","code":"b"}]},"gender":"female","multipleBirthInteger":2}"##
    );
    Ok(())
}

#[tokio::test]
async fn older_schemas_are_read_and_said() -> anyhow::Result<()> {
    let played = Played::start().await?;
    for id in ["named", "17"] {
        played.write(id, Some(&patient(id))).await?;
    }
    played
        .execute(&format!(
            "INSERT INTO hfj_forced_id (pid, forced_id, resource_pid, resource_type) VALUES (1, 'named', {}, 'Patient');
             INSERT INTO hfj_res_ver_prov (res_ver_pid, res_pid, request_id, source_uri) SELECT pid, res_id, 'Rq0', 'http://from' FROM hfj_res_ver WHERE res_id = {};
             ALTER TABLE hfj_resource DROP COLUMN fhir_id; ALTER TABLE hfj_res_ver DROP COLUMN request_id",
            row("named"),
            row("17")
        ))
        .await?;
    let unnamed: i64 = sqlx::query_scalar(
        "SELECT res_id FROM hfj_resource WHERE res_id NOT IN (SELECT resource_pid FROM hfj_forced_id)",
    )
    .fetch_one(&played.writer)
    .await?;
    let notes = played.hapi().await?.schema().notes.join("; ");
    assert!(
        notes.contains("hfj_forced_id") && notes.contains("request_id"),
        "{notes}"
    );
    let unnamed = unnamed.to_string();
    let found = states(&played, &["named", &unnamed, "none"]).await?;
    let named = found.iter().find(|s| s.id == "named").unwrap();
    assert!(
        text(named).contains(r#""id":"named","meta":{"versionId":"1","#)
            && !text(named).contains(r#""source""#)
    );
    let unnamed = text(found.iter().find(|s| s.id == unnamed).unwrap());
    assert!(unnamed.contains(r#""family":"17""#) && unnamed.contains(r#""source":"http://from#Rq0""#));
    assert_eq!(found.iter().find(|s| s.id == "none").unwrap().version, 0);
    Ok(())
}
