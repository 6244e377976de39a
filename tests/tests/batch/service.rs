//! BatchService over its own gRPC, the schedule running.

use std::time::Duration;

use anyhow::Context as _;
use api::proto::batch::{
    self as proto, read_changes_response::Part as ChangesPart, run_view_request,
    run_view_response::Part as ViewPart,
};
use tonic::Code;

use crate::{
    patient_resources,
    played::{ANOTHER_VIEW, PATIENT_VIEW, Played, patient},
    served::{Client, LIMIT, Served, active, refresh, serve},
};

/// One reading: states and the type's footer.
async fn read(
    client: &mut Client,
    position: Option<proto::Position>,
    window: Option<Duration>,
) -> anyhow::Result<(Vec<proto::ResourceState>, proto::TypeReading)> {
    let window = window.map(|w| prost_types::Duration {
        seconds: i64::try_from(w.as_secs()).unwrap_or(i64::MAX),
        nanos: 0,
    });
    let request = request(position);
    ask(client, proto::ReadChangesRequest { window, ..request }).await
}

fn request(position: Option<proto::Position>) -> proto::ReadChangesRequest {
    proto::ReadChangesRequest {
        since: vec![proto::TypePosition {
            resource_type: "Patient".into(),
            position,
        }],
        ..proto::ReadChangesRequest::default()
    }
}

async fn ask(
    client: &mut Client,
    request: proto::ReadChangesRequest,
) -> anyhow::Result<(Vec<proto::ResourceState>, proto::TypeReading)> {
    let mut stream = client.read_changes(request).await?.into_inner();
    let (mut states, mut footer) = (Vec::new(), None);
    let mut header = false;
    while let Some(message) = stream.message().await? {
        match message.part.context("a part")? {
            ChangesPart::Header(_) => header = true,
            ChangesPart::States(chunk) => states.extend(chunk.states),
            ChangesPart::Footer(f) => footer = f.types.into_iter().next(),
        }
    }
    assert!(header);
    Ok((states, footer.context("a footer")?))
}

async fn run_view(
    client: &mut Client,
    request: proto::RunViewRequest,
) -> anyhow::Result<(Vec<proto::ViewRow>, proto::RunViewFooter)> {
    let mut stream = client.run_view(request).await?.into_inner();
    let (mut rows, mut footer) = (Vec::new(), None);
    while let Some(message) = stream.message().await? {
        match message.part.context("a part")? {
            ViewPart::Header(header) => assert!(header.as_of.is_some() && !header.columns.is_empty()),
            ViewPart::Rows(chunk) => rows.extend(chunk.rows),
            ViewPart::Footer(f) => footer = Some(f),
        }
    }
    Ok((rows, footer.context("a footer")?))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_service_keeps_views_reads_changes_and_runs_views() -> anyhow::Result<()> {
    let played = Played::start().await?;
    for id in ["a", "b"] {
        played.write(id, Some(&patient(id))).await?;
    }
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("1-broken.json"),
        PATIENT_VIEW.replace("\"path\": \"gender\"", "\"path\": \"gender..x\""),
    )?;
    std::fs::write(folder.path().join("2-names.json"), PATIENT_VIEW)?;
    let Served {
        mut client,
        shutdown,
        metrics,
    } = serve(&played, folder.path()).await?;

    folder_is_registered(&mut client).await?;
    readings_go_on_from_positions(&mut client, &played).await?;
    an_idle_reading_is_cheap(&mut client).await?;
    many_changes_nudge_a_refresh(&mut client, &played).await?;
    refreshes_stream_progress(&mut client).await?;
    let mut watch = views_are_put_and_dropped(&mut client).await?;
    views_run_over_hapi(&mut client, &played).await?;
    resources_are_read(&mut client).await?;
    patient_resources::are_read(&mut client, &played).await?;
    verify_finds_what_is_wrong(&mut client, &played).await?;
    what_is_covered_is_read_again_where_that_is_asked_for(&mut client, &played).await?;

    let text = metrics.encode()?;
    for metric in [
        "researchflow_batch_refresh_duration_seconds_count",
        "researchflow_batch_readings_total",
        "researchflow_batch_watermark_margin_left_seconds",
    ] {
        assert!(text.contains(metric), "{metric} is missing");
    }

    // the stop ends open streams and everything else
    shutdown.stop();
    let ended = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        }
    });
    assert_eq!(ended.await?.err().map(|s| s.code()), Some(Code::Unavailable));
    drop((client, watch));
    assert!(shutdown.drain(Duration::from_secs(5)).await);
    Ok(())
}

/// the folder: one view is populated at once, the other is named with its place
async fn folder_is_registered(client: &mut Client) -> anyhow::Result<()> {
    let view = active(client, "patient_names").await?;
    assert_eq!((view.resource_type.as_str(), view.row_count), ("Patient", 2));
    // Three tables, each with an index or more of at least a page.
    assert!(view.byte_count >= 3 * 8192, "{}", view.byte_count);
    let status = client.get_status(proto::GetStatusRequest {}).await?.into_inner();
    assert!(
        status
            .schema_notes
            .iter()
            .any(|n| n.contains("1-broken.json") && n.contains("select[0].column[1].path")),
        "{:?}",
        status.schema_notes
    );
    Ok(())
}

/// readings
async fn readings_go_on_from_positions(client: &mut Client, played: &Played) -> anyhow::Result<()> {
    let (states, first) = read(client, None, None).await?;
    assert!(first.published_n > 0 && first.position.is_some() && !first.full_refresh_needed);
    assert!(
        states.len() <= 2,
        "nothing but what the watermark may not have seen"
    );
    played.write("a", Some(&patient("Later"))).await?;
    let (changed, second) = read(client, first.position.clone(), None).await?;
    let state = changed.iter().find(|s| s.id == "a").context("what has changed")?;
    assert!(state.version == 2 && String::from_utf8(state.body.clone())?.contains("Later"));
    let (_, capped) = read(client, first.position.clone(), Some(Duration::from_secs(1))).await?;
    assert!(capped.position.is_none(), "a capped window promises nothing");
    let mut foreign = second.position.clone().context("a position")?;
    foreign.timeline = "elsewhere".into();
    let (nothing, foreign) = read(client, Some(foreign), None).await?;
    assert!(foreign.full_refresh_needed && foreign.position.is_none() && nothing.is_empty());
    Ok(())
}

/// after a restore of the speed layer
async fn what_is_covered_is_read_again_where_that_is_asked_for(
    client: &mut Client,
    played: &Played,
) -> anyhow::Result<()> {
    let (_, before) = read(client, None, None).await?;
    let before = before.position.context("a position")?;
    played.write("b", Some(&patient("Covered"))).await?;
    let is_there = |states: &[proto::ResourceState]| states.iter().any(|state| state.id == "b");
    e2e::deadline::until("the batch to cover it", LIMIT, async || {
        refresh(&mut client.clone(), proto::RefreshKind::Incremental)
            .await
            .ok()?;
        let (states, reading) = read(&mut client.clone(), Some(before.clone()), None).await.ok()?;
        (reading.published_n > before.n && !is_there(&states)).then_some(())
    })
    .await?;
    let from_here = proto::ReadChangesRequest {
        from_here: true,
        ..request(Some(before.clone()))
    };
    let (states, reading) = ask(client, from_here).await?;
    assert!(is_there(&states), "{states:?}");
    assert!(reading.published_n > before.n && reading.position.is_some());
    Ok(())
}

/// a tail asks five times a second: an idle round must be cheap
async fn an_idle_reading_is_cheap(client: &mut Client) -> anyhow::Result<()> {
    let (_, reading) = read(client, None, None).await?;
    let mut rounds = Vec::new();
    for _ in 0..50 {
        let begun = std::time::Instant::now();
        read(client, reading.position.clone(), None).await?;
        rounds.push(begun.elapsed());
    }
    rounds.sort();
    eprintln!("an idle reading: p50 {:?}, p90 {:?}", rounds[25], rounds[45]);
    assert!(rounds[25] < Duration::from_millis(100), "{rounds:?}");
    Ok(())
}

/// more than a reading takes: a refresh comes instead
async fn many_changes_nudge_a_refresh(client: &mut Client, played: &Played) -> anyhow::Result<()> {
    let (_, before) = read(client, None, None).await?;
    for i in 0..6 {
        played.write(&format!("bulk{i}"), Some(&patient("Bulk"))).await?;
    }
    let (bulk, nudged) = read(client, before.position, None).await?;
    assert!(nudged.refresh_nudged && nudged.position.is_none() && bulk.is_empty());
    e2e::postgres::until_true(
        &played.views_url,
        "SELECT count(*) = 8 FROM sqlonfhir_batch.patient_names",
        LIMIT,
    )
    .await?;
    Ok(())
}

/// refreshes
async fn refreshes_stream_progress(client: &mut Client) -> anyhow::Result<()> {
    let done = refresh(client, proto::RefreshKind::Full).await?;
    assert_eq!(done.phase(), proto::RefreshPhase::Done);
    assert!(done.batch_as_of.is_some() && done.resources_read >= 8, "{done:?}");
    assert!(
        done.resources_total >= 8 && done.rows >= 8 && done.bytes > 0 && done.differences == Some(0),
        "{done:?}"
    );
    let status = client.get_status(proto::GetStatusRequest {}).await?.into_inner();
    let patients = status.types.first().context("a type")?;
    assert_eq!(patients.reconciled_differences, Some(0));
    assert!(
        patients.reconciled_as_of.is_some() && patients.next_refresh.is_none(),
        "on demand: {patients:?}"
    );
    assert_eq!(patients.last_run.as_ref().map(|run| run.rows), Some(done.rows));
    let kind = proto::RefreshRequest {
        resource_types: vec!["Patient".into()],
        kind: 9,
    };
    let refused = client.refresh(kind).await.err().context("no such kind")?;
    assert!(
        refused.code() == Code::InvalidArgument && refused.message().contains("kind: must be REFRESH_KIND_"),
        "{refused}"
    );
    let unknown = proto::RefreshRequest {
        resource_types: vec!["Basic".into()],
        kind: 0,
    };
    let refused = client.refresh(unknown).await.err().context("no view needs it")?;
    assert!(
        refused.code() == Code::InvalidArgument && refused.message().contains("Patient"),
        "{refused}"
    );
    Ok(())
}

/// views over gRPC; watchers hear of it
async fn views_are_put_and_dropped(
    client: &mut Client,
) -> anyhow::Result<tonic::Streaming<proto::WatchViewsResponse>> {
    let mut watch = client
        .watch_views(proto::WatchViewsRequest {})
        .await?
        .into_inner();
    assert_eq!(watch.message().await?.context("at once")?.views.len(), 1);
    client
        .put_view(proto::PutViewRequest {
            definition_json: ANOTHER_VIEW.into(),
            force: false,
        })
        .await?;
    assert_eq!(watch.message().await?.context("after a change")?.views.len(), 2);
    active(client, "patient_gender").await?;
    let invalid = client
        .put_view(proto::PutViewRequest {
            definition_json: "{\"resource\":1}".into(),
            force: false,
        })
        .await;
    assert_eq!(invalid.err().context("invalid")?.code(), Code::InvalidArgument);
    let columns: String = (0..1596).fold(String::new(), |list, i| {
        list + &format!("{{\"name\": \"c{i}\", \"path\": \"gender\"}}, ")
    });
    let impossible = client
        .put_view(proto::PutViewRequest {
            definition_json: ANOTHER_VIEW.replace("{\"name\"", &format!("{columns}{{\"name\"")),
            force: false,
        })
        .await
        .err()
        .context("a table does not take so many columns")?;
    assert!(
        impossible.code() == Code::InvalidArgument
            && impossible.message().starts_with("definition_json: ")
            && impossible.message().contains("columns; split the view"),
        "{impossible}"
    );
    client
        .drop_view(proto::DropViewRequest {
            name: "patient_gender".into(),
        })
        .await?;
    let missing = client
        .drop_view(proto::DropViewRequest {
            name: "patient_gender".into(),
        })
        .await
        .err()
        .context("gone")?;
    assert!(
        missing.code() == Code::NotFound && missing.message().contains("patient_names"),
        "{missing}"
    );
    Ok(watch)
}

/// straight over HAPI
async fn views_run_over_hapi(client: &mut Client, played: &Played) -> anyhow::Result<()> {
    let by_definition = |ids: &[&str], max_resources| proto::RunViewRequest {
        view: Some(run_view_request::View::DefinitionJson(PATIENT_VIEW.into())),
        ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        max_resources,
        ..Default::default()
    };
    played.write("b", None).await?;
    let (rows, footer) = run_view(client, by_definition(&[], 0)).await?;
    assert_eq!(
        (rows.len(), footer.resources_read, footer.truncated),
        (7, 7, false)
    );
    let (of_ids, _) = run_view(client, by_definition(&["a", "b", "it's"], 0)).await?;
    assert_eq!(
        of_ids.iter().map(|r| r.values_json.as_str()).collect::<Vec<_>>(),
        [r#"["a","female","Later"]"#]
    );
    let (newest, footer) = run_view(client, by_definition(&[], 2)).await?;
    assert_eq!((newest.len(), footer.truncated), (2, true));
    assert_eq!(newest[0].resource_id, "bulk5", "the most recently updated first");

    // Of patients: these, and what HAPI's index says that refers to them.
    played.execute(CONDITIONS).await?;
    let of_patient = |view: &str, patients: &[&str]| proto::RunViewRequest {
        view: Some(run_view_request::View::DefinitionJson(view.into())),
        patient_ids: patients.iter().map(|id| (*id).to_owned()).collect(),
        ..Default::default()
    };
    let condition_view = PATIENT_VIEW.replace("\"resource\": \"Patient\"", "\"resource\": \"Condition\"");
    for (view, patients, expected) in [
        (PATIENT_VIEW, &["a", "nobody"][..], &["a"][..]),
        (condition_view.as_str(), &["a"], &["c-a"]),
        (condition_view.as_str(), &["bulk1", "a"], &["c-a", "c-bulk1"]),
        (condition_view.as_str(), &["c-a"], &[]),
    ] {
        let (rows, footer) = run_view(client, of_patient(view, patients)).await?;
        let mut ids: Vec<_> = rows.iter().map(|row| row.resource_id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids, expected, "{patients:?}");
        assert_eq!(footer.resources_read, i64::try_from(expected.len())?);
    }
    Ok(())
}

/// A condition of each of two patients, with HAPI's index of the reference.
const CONDITIONS: &str = r#"
    INSERT INTO hfj_resource SELECT (jsonb_populate_record(r, jsonb_build_object('res_id', r.res_id + 900000, 'fhir_id', 'c-' || r.fhir_id, 'res_type', 'Condition'))).*
        FROM hfj_resource r WHERE r.fhir_id IN ('a', 'bulk1');
    INSERT INTO hfj_res_ver SELECT (jsonb_populate_record(v, jsonb_build_object('pid', v.pid + 900000, 'res_id', v.res_id + 900000, 'res_type', 'Condition',
            'res_text_vc', '{"resourceType":"Condition","name":[{"family":"C"}]}'))).*
        FROM hfj_res_ver v JOIN hfj_resource r USING (res_id, res_ver) WHERE r.fhir_id IN ('a', 'bulk1');
    INSERT INTO hfj_res_link (pid, src_path, src_resource_id, source_resource_type, target_resource_id, target_resource_type)
        SELECT res_id, 'Condition.subject', res_id + 900000, 'Condition', res_id, 'Patient' FROM hfj_resource WHERE fhir_id IN ('a', 'bulk1')"#;

async fn resources_are_read(client: &mut Client) -> anyhow::Result<()> {
    let reference = |id: &str, version| proto::read_resources_request::Reference {
        resource_type: "Patient".into(),
        id: id.into(),
        version,
    };
    let read = async |references: &[(&str, i64)]| {
        let references = references.iter().map(|(id, version)| reference(id, *version));
        let asked = proto::ReadResourcesRequest {
            references: references.collect(),
        };
        let mut stream = client.clone().read_resources(asked).await?.into_inner();
        let mut states = Vec::new();
        while let Some(message) = stream.message().await? {
            states.extend(message.states);
        }
        anyhow::Ok(states)
    };
    let current = read(&[("never", 0), ("a", 0), ("b", 0)]).await?;
    let versions: Vec<_> = current
        .iter()
        .map(|s| (s.id.as_str(), s.version, s.deleted))
        .collect();
    assert_eq!(versions, [("a", 2, false), ("b", 2, true), ("never", 0, true)]);
    // Of the second one, HAPI has no third version.
    let named = read(&[("b", 2), ("a", 1), ("a", 2), ("a", 3), ("b", 1), ("never", 1)]).await?;
    let versions: Vec<_> = named
        .iter()
        .map(|s| (s.id.as_str(), s.version, s.deleted))
        .collect();
    assert_eq!(
        versions,
        [
            ("a", 1, false),
            ("a", 2, false),
            ("a", 0, true),
            ("b", 1, false),
            ("b", 2, true),
            ("never", 0, true)
        ]
    );
    assert_eq!(
        named[1], current[0],
        "the current version by its number is the current one"
    );
    let body = std::str::from_utf8(&named[0].body)?;
    assert!(
        body.contains("\"versionId\":\"1\"") && !body.contains("Later"),
        "{body}"
    );
    let refused = read(&[("a", -1)]).await.expect_err("no version is negative");
    assert!(refused.to_string().contains("references.version"), "{refused}");
    Ok(())
}

/// a changed resource is the next refresh's; one that is wrong by no change is a difference
async fn verify_finds_what_is_wrong(client: &mut Client, played: &Played) -> anyhow::Result<()> {
    let verify = async |client: &mut Client| -> anyhow::Result<proto::VerifyResponse> {
        let mut stream = client.verify(proto::VerifyRequest::default()).await?.into_inner();
        let (mut all, mut differences) = (proto::VerifyResponse::default(), Vec::new());
        while let Some(message) = stream.message().await? {
            differences.extend(message.differences.clone());
            all = message;
        }
        all.differences = differences;
        assert!(all.done);
        Ok(all)
    };
    let verified = verify(client).await?;
    assert_eq!(
        (verified.resources_compared, verified.differences_found),
        (8, 0),
        "{verified:?}"
    );
    refresh(client, proto::RefreshKind::Incremental).await?;
    let spoil = "UPDATE sqlonfhir_base.patient_names SET family = 'Spoilt' WHERE _rid = 'bulk1'; DELETE FROM sqlonfhir_base.patient_names WHERE _rid = 'bulk2'";
    played.server.execute("views", spoil).await?;
    // old enough not to be read again: the margin reaches 90 s back
    played.execute("UPDATE hfj_res_ver SET res_updated = res_updated - interval '1 day'; UPDATE hfj_resource SET res_updated = res_updated - interval '1 day'").await?;
    played.execute("DELETE FROM hfj_res_ver WHERE res_id = (SELECT res_id FROM hfj_resource WHERE fhir_id = 'bulk3'); DELETE FROM hfj_resource WHERE fhir_id = 'bulk3'").await?;
    let verified = verify(client).await?;
    let ids: Vec<_> = verified
        .differences
        .iter()
        .map(|d| (d.resource_id.as_str(), d.version))
        .collect();
    assert_eq!(ids, [("bulk1", 1), ("bulk2", 1), ("bulk3", 0)]);
    refresh(client, proto::RefreshKind::Full).await?;
    assert_eq!(
        verify(client).await?.differences_found,
        0,
        "a full refresh mends every difference"
    );
    Ok(())
}
