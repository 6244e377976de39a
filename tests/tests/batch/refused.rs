//! Databases and roles that will not do, each with what to change.

use batch_refresher::hapi::{Hapi, HapiSettings, IdRange, MetaRead, Partition};

use crate::played::{Played, patient};

async fn refusal(settings: HapiSettings) -> String {
    match Hapi::connect(settings).await {
        Ok(_) => panic!("it was taken"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn what_would_lose_rows_is_refused_with_what_to_do() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let settings = || played.settings();
    let with_url = |url: String| HapiSettings {
        url,
        ..played.settings()
    };
    assert!(Hapi::connect(settings()).await.is_ok());

    played.execute("CREATE ROLE blind LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO blind; CREATE ROLE nobody LOGIN; GRANT pg_read_all_stats TO nobody").await?;
    let blind = refusal(with_url(played.server.url_as("blind", "", "hapi"))).await;
    assert!(blind.contains("GRANT pg_read_all_stats TO \"blind\""), "{blind}");
    let nobody = refusal(with_url(played.server.url_as("nobody", "", "hapi"))).await;
    assert!(
        nobody.contains("may not read hfj_") && nobody.contains("GRANT SELECT"),
        "{nobody}"
    );
    let elsewhere = refusal(with_url(played.server.url("postgres"))).await;
    assert!(elsewhere.contains("there is no hfj_resource"), "{elsewhere}");
    let unparsable = refusal(with_url("mysql://u:hunter2@h/d".into())).await;
    assert!(
        unparsable.contains("hapi.url") && !unparsable.contains("hunter2"),
        "{unparsable}"
    );

    // a JVM east of the configured zone
    played.write("a", Some(&patient("A"))).await?;
    let ahead = refusal(HapiSettings {
        zone: "America/New_York".parse().map_err(|_| anyhow::anyhow!("zone"))?,
        ..settings()
    })
    .await;
    assert!(ahead.contains("hapi.time_zone"), "{ahead}");

    played.write("b", Some(&patient("B"))).await?;
    played
        .execute("INSERT INTO hfj_partition VALUES (3, 'x', 'X'), (4, 'y', 'Y'); UPDATE hfj_resource SET partition_id = 3 WHERE fhir_id = 'b'")
        .await?;
    let several = refusal(settings()).await;
    assert!(
        several.contains("hapi.partition") && several.contains("3, default"),
        "{several}"
    );
    let chosen = Hapi::connect(HapiSettings {
        partition: Partition::Id(3),
        ..settings()
    })
    .await?;
    let mut loaded = std::pin::pin!(chosen.load("Patient", IdRange::split_at(&[])[0], MetaRead::ALL));
    let states = tokio_stream::StreamExt::next(&mut loaded)
        .await
        .unwrap()?
        .states();
    assert_eq!(states.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["b"]);
    Ok(())
}

#[tokio::test]
async fn a_reading_that_cannot_see_when_others_began_is_refused() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let hapi = played.hapi().await?;
    hapi.clock().await?;
    let mut hidden = played.writer.acquire().await?;
    sqlx::raw_sql("SET track_activities = off; BEGIN; SELECT pg_current_xact_id()")
        .execute(&mut *hidden)
        .await?;
    let refused = hapi
        .clock()
        .await
        .expect_err("its beginning is not known")
        .to_string();
    assert!(refused.contains("track_activities"), "{refused}");
    sqlx::raw_sql("ROLLBACK; SET track_activities = on; SELECT 1")
        .execute(&mut *hidden)
        .await?;
    hapi.clock().await?;
    played.execute("REVOKE pg_read_all_stats FROM source").await?;
    let refused = hapi.clock().await.expect_err("the role is blind").to_string();
    assert!(refused.contains("GRANT pg_read_all_stats TO"), "{refused}");
    Ok(())
}
