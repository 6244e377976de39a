//! Where the audit cannot be written: refused, or done all the same, as it is set; and what a crash leaves.

use std::{path::Path, time::Duration};

use api::proto::serving::QueryRequest;
use e2e::{
    ask::all_of,
    deadline,
    fhir::http_client,
    house::{asker, view_of},
    process::Daemon,
    rpc::{Call, Said, framed},
};
use prost::Message as _;
use tonic::{Code, transport::Channel};

use crate::{
    file::{LIMIT, ended, records, until_ended, verify},
    whole::{PATIENTS, Whole},
};

const QUERY: &str = "/researchflow.serving.v1.ServingService/Query";

async fn query(channel: &Channel, id: &str) -> anyhow::Result<Said> {
    let headers = [("x-request-id", id)];
    let request: QueryRequest = all_of(&view_of("Patient"));
    Call {
        headers: &headers,
        ..Call::to(QUERY)
    }
    .send(channel, framed(&request.encode_to_vec()))
    .await
}

/// A metric's value, with its labels as they are written.
async fn metric(daemon: &Daemon, name: &str) -> anyhow::Result<f64> {
    let text = daemon.metrics().await?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim);
    Ok(line.unwrap_or("0").parse()?)
}

/// In place of the file there is a folder.
fn break_it(file: &Path) -> anyhow::Result<()> {
    std::fs::rename(file, file.with_extension("aside"))?;
    Ok(std::fs::create_dir(file)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_recorded_is_refused_before_a_row_is_given_out_where_that_is_set() -> anyhow::Result<()>
{
    let whole = Whole::start(&[("ON_FAILURE", "refuse"), ("FSYNC", "always")]).await?;
    let channel = whole.channel(QUERY).await?;
    let file = whole.file("serving");
    let said = query(&channel, "good").await?;
    assert_eq!((said.code(), said.answered), (Code::Ok, true));
    // The answer has ended: its record is there, without waiting, behind that of its beginning.
    let kinds: Vec<String> = records(&file)
        .iter()
        .filter(|record| record["request_id"] == "good")
        .map(|record| record["kind"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(kinds, ["begun", "ended"]);
    assert_eq!(ended(&file, "good")[0]["given"]["rows"], PATIENTS);

    break_it(&file)?;
    let said = query(&channel, "refused").await?;
    assert_eq!(
        (said.code(), said.answered),
        (Code::Unavailable, false),
        "{said:?}"
    );
    let reason = said.details().error_info().map(|info| info.reason.clone());
    assert_eq!(reason.as_deref(), Some("AUDIT_UNAVAILABLE"));
    let base = format!("http://{}", whole.serving.address("http")?);
    let url = format!(
        "{base}/$sql-run?subjectReference=ViewDefinition/{}",
        view_of("Patient").replace('_', "-")
    );
    let answer = http_client()?.get(&url).send().await?;
    assert_eq!(answer.status().as_u16(), 503);
    assert!(!answer.text().await?.contains("p1"), "a row was given out");
    assert!(metric(&whole.serving, "researchflow_audit_refused_total").await? >= 2.0);
    assert!(metric(&whole.serving, "researchflow_audit_failures_total{sink=\"file\"}").await? >= 1.0);
    // What is no patient's is answered.
    let mut client = asker(&whole.serving).await?.client;
    client
        .list_views(api::proto::serving::ListViewsRequest {})
        .await?;
    // What changes something is not done.
    let reset = client
        .reset_statistics(api::proto::serving::ResetStatisticsRequest {})
        .await;
    assert_eq!(
        reset.map(|_| ()).map_err(|status| status.code()),
        Err(Code::Unavailable)
    );

    std::fs::remove_dir(&file)?;
    deadline::until("it is written again", LIMIT, || async {
        let said = query(&channel, "again").await.ok()?;
        (said.code() == Code::Ok).then_some(())
    })
    .await?;
    verify(&[&file.with_extension("aside"), &file])?;
    // Also what was refused meanwhile.
    assert_eq!(ended(&file, "refused")[0]["outcome"], "unavailable");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_recorded_is_done_and_recorded_later_where_that_is_set() -> anyhow::Result<()> {
    let whole = Whole::start(&[("ON_FAILURE", "continue")]).await?;
    let channel = whole.channel(QUERY).await?;
    let file = whole.file("serving");
    query(&channel, "good").await?;
    until_ended(&file, "good").await?;
    break_it(&file)?;
    for number in 0..10 {
        let said = query(&channel, &format!("later-{number}")).await?;
        assert_eq!((said.code(), said.answered), (Code::Ok, true), "{said:?}");
    }
    deadline::until("what waits is told", LIMIT, || async {
        let pending = metric(&whole.serving, "researchflow_audit_pending{sink=\"file\"}")
            .await
            .ok()?;
        (pending >= 10.0).then_some(())
    })
    .await?;
    std::fs::remove_dir(&file)?;
    for number in 0..10 {
        until_ended(&file, &format!("later-{number}")).await?;
    }
    let failed = metric(&whole.serving, "researchflow_audit_failures_total{sink=\"file\"}").await?;
    assert!(failed >= 1.0, "{failed}");
    assert!(metric(&whole.serving, "researchflow_audit_lost_total{sink=\"file\"}").await? < 1.0);
    verify(&[&file.with_extension("aside"), &file])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_holds_after_a_crash_and_goes_on_and_a_stop_loses_nothing() -> anyhow::Result<()> {
    let mut whole = Whole::start(&[]).await?;
    let file = whole.file("serving");
    for round in 0..3 {
        let channel = whole.channel(QUERY).await?;
        let before = records(&file).len();
        let asking: Vec<_> = (0..4)
            .map(|_| {
                let channel = channel.clone();
                tokio::spawn(async move {
                    while query(&channel, "load")
                        .await
                        .is_ok_and(|said| said.code() == Code::Ok)
                    {}
                })
            })
            .collect();
        deadline::until("there is a load", LIMIT, || async {
            (records(&file).len() > before + 50).then_some(())
        })
        .await?;
        whole.serving.kill9();
        for task in asking {
            task.await?;
        }
        verify(&[&file])?;
        whole.serving.restart().await?;
        let channel = whole.channel(QUERY).await?;
        let id = format!("after-{round}");
        query(&channel, &id).await?;
        until_ended(&file, &id).await?;
        verify(&[&file])?;
    }
    // Every answer that has come whole is there after a stop.
    let channel = whole.channel(QUERY).await?;
    for number in 0..20 {
        query(&channel, &format!("last-{number}")).await?;
    }
    let status = whole.serving.terminate(Duration::from_secs(20)).await?;
    assert!(status.success(), "{status}");
    for number in 0..20 {
        assert_eq!(ended(&file, &format!("last-{number}")).len(), 1, "{number}");
    }
    let last = records(&file).pop().unwrap_or_default();
    assert_eq!(last["kind"], "stopped", "{last}");
    // A line that is changed is seen.
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, text.replacen("\"rows\":100", "\"rows\":0", 1))?;
    assert!(verify(&[&file]).is_err());
    Ok(())
}
