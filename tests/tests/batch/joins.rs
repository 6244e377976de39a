//! Views that cannot join their type, for a reason that lasts or one that passes: the others have what changed (law 4).

use std::time::Duration;

use api::proto::batch as proto;
use e2e::deadline;
use sqlx::{Connection as _, PgConnection};
use tonic::Code;

use crate::{
    played::{ANOTHER_VIEW, PATIENT_VIEW, Played, patient},
    served::{LIMIT, Served, active, refresh, serve},
};

/// A patient, a view, and a second view whose tables cannot be made, with this SQLSTATE. Answers the connection that can [`allow`] it.
async fn refused(
    played: &Played,
    folder: &std::path::Path,
    sqlstate: &str,
) -> anyhow::Result<(Served, PgConnection)> {
    played.write("a", Some(&patient("a"))).await?;
    std::fs::write(folder.join("names.json"), PATIENT_VIEW)?;
    let mut served = serve(played, folder).await?;
    active(&served.client, "patient_names").await?;
    let mut views = PgConnection::connect(&played.views_url).await?;
    let refuse = format!(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF current_query() LIKE '%CREATE TABLE sqlonfhir_live.\"patient_gender\"%' THEN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END IF; END $$; \
         CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION refuse()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(refuse))
        .execute(&mut views)
        .await?;
    served.client.put_view(put(ANOTHER_VIEW.to_owned())).await?;
    Ok((served, views))
}

/// From here on the tables can be made.
async fn allow(views: &mut PgConnection) -> anyhow::Result<()> {
    sqlx::raw_sql("DROP EVENT TRIGGER refuse").execute(views).await?;
    Ok(())
}

fn put(definition: String) -> proto::PutViewRequest {
    proto::PutViewRequest {
        definition_json: definition,
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn law_4_a_view_that_cannot_join_stops_no_other_view_of_its_type() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("nul.json"),
        PATIENT_VIEW.replace(
            "\"name\": \"patient_names\"",
            "\"name\": \"nul\", \"url\": \"http://x/\\u0000\"",
        ),
    )?;
    // Where one of its tables would stand no table can be made.
    let (served, mut views) = refused(&played, folder.path(), "42809").await?;
    let Served {
        mut client, shutdown, ..
    } = served;
    deadline::until("the reason is told", LIMIT, || async {
        let views = client.clone().list_views(proto::ListViewsRequest {}).await.ok()?;
        let views = views.into_inner().views;
        let failed = views.iter().find(|view| view.name == "patient_gender")?;
        (failed.state() == proto::ViewState::Error && failed.reason.contains("42809")).then_some(())
    })
    .await?;
    played.write("b", Some(&patient("b"))).await?;
    let failed = refresh(&mut client, proto::RefreshKind::Incremental).await?;
    assert!(failed.reason.contains("42809"), "{}", failed.reason);
    assert_eq!(played.names().await?.len(), 2);

    // Once it can join, it does, asked for or not.
    allow(&mut views).await?;
    active(&client, "patient_gender").await?;

    // A name that an index has is no name for a view.
    let taken = ANOTHER_VIEW.replace("patient_gender", "patient_names_pkey");
    let index: bool =
        sqlx::query_scalar("SELECT to_regclass('sqlonfhir_base.patient_names_pkey') IS NOT NULL")
            .fetch_one(&mut views)
            .await?;
    assert!(index, "the test's index is there");
    let refused = client.put_view(put(taken)).await.expect_err("the name is taken");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    shutdown.stop();
    assert!(shutdown.drain(Duration::from_secs(5)).await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn law_4_nor_does_one_that_cannot_join_for_a_passing_reason() -> anyhow::Result<()> {
    let played = Played::start().await?;
    let folder = tempfile::tempdir()?;
    // As where a server that is about to join the view is short of something: another try may help, and so many others may.
    let (served, mut views) = refused(&played, folder.path(), "53400").await?;
    let Served {
        mut client, shutdown, ..
    } = served;
    played.write("b", Some(&patient("b"))).await?;
    let failed = refresh(&mut client, proto::RefreshKind::Incremental).await?;
    assert_eq!(failed.phase(), proto::RefreshPhase::Failed);
    assert!(failed.reason.contains("53400"), "{}", failed.reason);
    assert_eq!(played.names().await?.len(), 2, "the other view has what changed");
    // It is no fault of the view, and it is tried again without being asked.
    let listed = client
        .list_views(proto::ListViewsRequest {})
        .await?
        .into_inner()
        .views;
    assert!(
        listed.iter().all(|view| view.state() != proto::ViewState::Error),
        "{listed:?}"
    );
    allow(&mut views).await?;
    active(&client, "patient_gender").await?;
    shutdown.stop();
    assert!(shutdown.drain(Duration::from_secs(5)).await);
    Ok(())
}
