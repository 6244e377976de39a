//! Servers that refuse: the views' PostgreSQL, with what it was given in its own words; Redis; what stands in Redis is damaged.

use std::time::Duration;

use api::proto::{
    batch::{ReadPatientResourcesRequest, RefreshRequest},
    speed::PutResourceRequest,
};
use e2e::{
    ask::all_of,
    deadline,
    fhir::http_client,
    house::{SECRET, view_of},
    tables,
};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::{planted::Canary, world::World};

const LIMIT: Duration = Duration::from_secs(30);

/// Provokes them all, one after the other, and takes each away again.
pub(crate) async fn provoke(world: &mut World) -> anyhow::Result<()> {
    views_refuse(world).await?;
    hapi_refuses(world).await?;
    redis_refuses(world).await?;
    redis_is_damaged(world).await
}

/// Writes a patient into HAPI's tables.
async fn written(world: &World, id: &str) -> anyhow::Result<()> {
    let stored = json!({"resourceType": "Patient", "name": [{"family": Canary::Family.text()}]}).to_string();
    tables::write_new(&world.house.hapi, "Patient", id, &stored).await
}

async fn until_logged(world: &World, what: &str) -> anyhow::Result<()> {
    deadline::until(what, LIMIT, || async {
        world.serving.log().contains(what).then_some(())
    })
    .await
}

/// A trigger that says what it was given, in PostgreSQL's message, detail and hint; merger and refresher meet it.
async fn views_refuse(world: &mut World) -> anyhow::Result<()> {
    let mut owner = PgConnection::connect(&world.house.views_url).await?;
    let refuse = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         RAISE EXCEPTION 'refused: %', NEW USING DETAIL = NEW::text, HINT = NEW::text; END $$";
    sqlx::raw_sql(refuse).execute(&mut owner).await?;
    for layer in ["base", "live"] {
        let trigger = format!(
            "CREATE TRIGGER refuse BEFORE INSERT ON sqlonfhir_{layer}.{} FOR EACH ROW EXECUTE FUNCTION refuse()",
            view_of("Patient")
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(trigger))
            .execute(&mut owner)
            .await?;
    }
    written(world, &format!("{}-2", Canary::PatientId.text())).await?;
    until_logged(world, "merging of a type is interrupted").await?;
    let mut client = world.house.operator().await?.client;
    let mut refreshed = client.refresh(RefreshRequest::default()).await?.into_inner();
    let failed = loop {
        match refreshed.message().await {
            Ok(Some(message)) if message.reason.is_empty() => {}
            Ok(Some(message)) => break message.reason,
            Ok(None) => break String::new(),
            Err(status) => break format!("{status:?}"),
        }
    };
    anyhow::ensure!(!failed.is_empty(), "the refresh was not refused");
    world.keep("error of Refresh", failed);
    sqlx::raw_sql("DROP FUNCTION refuse CASCADE")
        .execute(&mut owner)
        .await?;
    Ok(())
}

/// HAPI's PostgreSQL lets nobody read bodies for a while.
async fn hapi_refuses(world: &mut World) -> anyhow::Result<()> {
    let rights = |word: &str, role: &str| format!("{word} SELECT ON hfj_res_ver {role} source");
    let refuse = sqlx::AssertSqlSafe(rights("REVOKE", "FROM"));
    sqlx::raw_sql(refuse).execute(&world.house.hapi).await?;
    written(world, &format!("{}-3", Canary::PatientId.text())).await?;
    let mut client = world.house.operator().await?.client;
    let request = ReadPatientResourcesRequest {
        resource_types: vec!["Condition".into()],
        patient_ids: vec![Canary::PatientId.text()],
    };
    let result = match client.read_patient_resources(request).await {
        Ok(answer) => answer.into_inner().message().await,
        Err(status) => Err(status),
    };
    anyhow::ensure!(result.is_err(), "HAPI's database was not refused");
    world.keep_status("ReadPatientResources while HAPI refuses", result);
    let again = sqlx::AssertSqlSafe(rights("GRANT", "TO"));
    sqlx::raw_sql(again).execute(&world.house.hapi).await?;
    Ok(())
}

async fn webhook(world: &mut World) -> anyhow::Result<u16> {
    let id = Canary::PatientId.text();
    let body = json!({"resourceType": "Patient", "id": id, "name": [{"family": Canary::Family.text()}],
        "meta": {"versionId": "3", "lastUpdated": "2090-01-01T00:00:00.000+00:00"}});
    let request = http_client()?
        .put(format!(
            "http://{}/fhir/Patient/{id}",
            world.speed.address("http")?
        ))
        .header("authorization", format!("Bearer {SECRET}"))
        .header("content-type", "application/fhir+json")
        .body(body.to_string());
    world.keep_answer("a webhook while Redis refuses", request).await
}

async fn redis_refuses(world: &mut World) -> anyhow::Result<()> {
    let (speed, id) = (world.speed().await?, Canary::OtherId.text());
    for (refuse, again) in [
        (
            ["CONFIG", "SET", "maxmemory", "1"],
            ["CONFIG", "SET", "maxmemory", "0"],
        ),
        (
            ["CONFIG", "SET", "min-replicas-to-write", "1"],
            ["CONFIG", "SET", "min-replicas-to-write", "0"],
        ),
    ] {
        world.ask_redis(&refuse).await?;
        webhook(world).await?;
        let body = json!({"resourceType": "Patient", "id": id, "meta": {"versionId": "3", "lastUpdated": "2090-01-01T00:00:00Z"}});
        let put = PutResourceRequest {
            body: body.to_string().into_bytes(),
            time_to_live: None,
        };
        let result = speed.clone().put_resource(put).await;
        world.keep_status("PutResource while Redis refuses", result);
        world.ask_redis(&again).await?;
    }
    Ok(())
}

/// Entries that are none, of the right kind and of the wrong one.
async fn redis_is_damaged(world: &mut World) -> anyhow::Result<()> {
    let planted = Canary::Redis.text();
    let key = format!("fhir:Patient:{planted}");
    world.ask_redis(&["SET", &key, &planted]).await?;
    written(world, &planted).await?;
    let damaged = |log: String| log.contains("the speed layer cannot be asked").then_some(());
    world
        .ask_redis(&[
            "RPUSH",
            "fhir:previews:Patient",
            &format!("{planted} is no preview\n{planted}"),
        ])
        .await?;
    deadline::until("the merger to meet what is damaged", LIMIT, || async {
        damaged(world.serving.log())
    })
    .await?;
    let mut client = world.speed().await?;
    let scan = api::proto::speed::ScanRecentResourcesRequest {
        resource_type: "Patient".into(),
        ..Default::default()
    };
    let result = client.scan_recent_resources(scan).await;
    world.keep_status("ScanRecentResources of what is damaged", result);
    webhook(world).await?;
    for command in [
        &["DEL", key.as_str()][..],
        &[
            "DEL",
            "fhir:previews:Patient",
            "fhir:preview-bytes:Patient",
            "fhir:preview-sizes:Patient",
        ],
    ] {
        world.ask_redis(command).await?;
    }
    deadline::until("answers to go on", LIMIT, || async {
        world.rows(all_of(&view_of("Patient"))).await.ok()
    })
    .await?;
    Ok(())
}
