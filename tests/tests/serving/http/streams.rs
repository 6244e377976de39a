//! Long answers: as fast as the client takes them, in flat memory, and broken off in sight of the client where they cannot be finished.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e::deadline;
use e2e::fhir::http_client;
use e2e::process::{Daemon, Plan};
use e2e::server::{Lifetime, new_folder};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{get, register};
use crate::fakes::PATIENCE;
use crate::fixture::{Fixture, join};

const MANY: &str = r#"{"resourceType": "ViewDefinition", "name": "many", "status": "active", "resource": "Condition", "select": [{"column": [
    {"name": "number", "path": "code.coding.count()", "type": "integer"},
    {"name": "label", "path": "code.text"}]}]}"#;

const PATH: &str = "/$sql-run?subjectReference=ViewDefinition/many";
/// Text of a row, so that an answer is larger than the sockets' buffers.
const LABEL: &str = "a label that is as long as the texts of codes tend to be, and then some";

/// A gateway over a view with so many rows, as the refresher would have published them.
async fn many(rows: u32, stall: Duration) -> anyhow::Result<Fixture> {
    let settings = |config: &mut serving_gateway::Config| {
        config.http.stall_seconds = stall;
        config.query.stop_seconds = Duration::from_millis(100);
    };
    let fixture = Fixture::with_settings(&[], settings).await?;
    register(&fixture, MANY).await?;
    join(&fixture.owner, 2, &[]).await?;
    let mut owner = PgConnection::connect(&fixture.owner_url).await?;
    let fill = format!(
        "INSERT INTO sqlonfhir_base.many (_rid, _version, _updated, _row, number, label) \
         SELECT i::text, 1, now(), 0, i, '{LABEL}' FROM generate_series(1, {rows}) i"
    );
    sqlx::raw_sql(AssertSqlSafe(fill)).execute(&mut owner).await?;
    deadline::until("the gateway knows that the view is there", PATIENCE, || async {
        let said = get(&fixture, &format!("{PATH}&_limit=1")).await.ok()?;
        (said.header("x-researchflow-source") == "materialized").then_some(())
    })
    .await?;
    Ok(fixture)
}

/// A line of the log of what the gateway is asked.
async fn querying(fixture: &Fixture) -> anyhow::Result<i64> {
    let mut owner = PgConnection::connect(&fixture.owner_url).await?;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'gateway' \
               AND state = 'active' AND query LIKE '%many%'";
    Ok(sqlx::query_scalar(sql).fetch_one(&mut owner).await?)
}

async fn until_broken(fixture: &Fixture, why: &str) -> anyhow::Result<()> {
    let line = format!("http_broken_answers_total{{outcome=\"{why}\"}} 1");
    deadline::until(&line, PATIENCE, || async {
        fixture
            .gateway
            .metrics
            .encode()
            .ok()?
            .contains(&line)
            .then_some(())
    })
    .await
}

/// A client that has asked, and has read the head and no more.
async fn asked(fixture: &Fixture) -> anyhow::Result<TcpStream> {
    let address = fixture
        .gateway
        .http
        .strip_prefix("http://")
        .context("a base URL")?;
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(format!("GET {PATH} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
        .await?;
    let mut first = [0; 12];
    stream.read_exact(&mut first).await?;
    anyhow::ensure!(&first == b"HTTP/1.1 200", "an answer has begun");
    Ok(stream)
}

/// Reads on to the end of the connection: true if the body had its own end.
async fn ends_whole(mut stream: TcpStream) -> anyhow::Result<bool> {
    let mut rest = Vec::new();
    let reading = stream.read_to_end(&mut rest);
    let read = tokio::time::timeout(PATIENCE, reading)
        .await
        .context("the connection must end")?;
    Ok(read.is_ok() && rest.ends_with(b"0\r\n\r\n"))
}

#[tokio::test]
async fn a_failure_in_the_middle_of_an_answer_breaks_it_off() -> anyhow::Result<()> {
    let fixture = many(200_000, Duration::from_mins(1)).await?;
    let stream = asked(&fixture).await?;
    let mut owner = PgConnection::connect(&fixture.owner_url).await?;
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'gateway' \
               AND state = 'active' AND query LIKE '%many%'";
    let ended: i64 = sqlx::query_scalar(end).fetch_one(&mut owner).await?;
    assert!(ended > 0, "the query waits for the client");
    assert!(!ends_whole(stream).await?, "half an answer looks whole");
    until_broken(&fixture, "failed").await?;
    // A client library sees it as well.
    let whole = get(&fixture, &format!("{PATH}&_limit=1000")).await?;
    assert_eq!(whole.text.lines().count(), 1000);
    Ok(())
}

#[tokio::test]
async fn a_client_that_takes_nothing_or_goes_gives_its_query_back() -> anyhow::Result<()> {
    let fixture = many(200_000, Duration::from_millis(300)).await?;
    let stalled = asked(&fixture).await?;
    until_broken(&fixture, "stalled").await?;
    assert!(!ends_whole(stalled).await?, "half an answer looks whole");
    drop(asked(&fixture).await?);
    until_broken(&fixture, "gone").await?;
    deadline::until("no query is left", PATIENCE, || async {
        (querying(&fixture).await.ok()? == 0).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_stop_breaks_long_answers_off_and_lets_no_new_ones_begin() -> anyhow::Result<()> {
    let fixture = many(200_000, Duration::from_mins(1)).await?;
    let stream = asked(&fixture).await?;
    fixture.gateway.shutdown.stop();
    until_broken(&fixture, "stopped").await?;
    assert!(!ends_whole(stream).await?, "half an answer looks whole");
    // What was on its way when the stop came is still taken, for a moment.
    let address = fixture
        .gateway
        .http
        .strip_prefix("http://")
        .context("a base URL")?;
    deadline::until("the listener is closed", PATIENCE, || async {
        TcpStream::connect(address).await.is_err().then_some(())
    })
    .await
}

#[tokio::test]
async fn a_million_rows_come_in_flat_memory() -> anyhow::Result<()> {
    const ROWS: u32 = 1_000_000;
    let fixture = many(ROWS, Duration::from_mins(1)).await?;
    // A process of its own, whose memory is the gateway's alone.
    let config = format!(
        "[daemon]\ngrpc_listen = \"{{grpc}}\"\nadmin_listen = \"{{admin}}\"\n\n[http]\nlisten = \"{{http}}\"\n\n[views]\nurl = \"{}\"\n\n[services]\nspeed = \"{}\"\nbatch = \"{}\"\n",
        fixture.url, fixture.services.0, fixture.services.1,
    );
    let gateway = Daemon::start(Plan {
        name: "serving-gateway",
        config,
        environment: Vec::new(),
        folder: new_folder("million", None, Lifetime::Program)?,
        lifetime: Lifetime::Program,
    })
    .await?;
    let url = format!("http://{}{PATH}", gateway.address("http")?);
    let counted = async |url: &str| {
        let mut answer = http_client()?.get(url).send().await?.error_for_status()?;
        let (mut lines, mut bytes, mut last) = (0, 0_usize, 0);
        while let Some(part) = answer.chunk().await? {
            lines += part.split(|byte| *byte == b'\n').count() - 1;
            bytes += part.len();
            last = part.last().copied().unwrap_or(last);
        }
        anyhow::ensure!(last == b'\n', "the last line is whole");
        anyhow::Ok((lines, bytes))
    };
    let begun = Instant::now();
    let (lines, _) = counted(&format!("{url}&_limit=50000")).await?;
    assert_eq!(lines, 50_000);
    let before = highest(gateway.pid())?;
    let (lines, bytes) = counted(&url).await?;
    let grown = highest(gateway.pid())?.saturating_sub(before);
    assert_eq!(lines, usize::try_from(ROWS)?);
    println!(
        "{lines} rows, {bytes} bytes in {:?}; grown by {grown} bytes",
        begun.elapsed()
    );
    assert!(
        bytes > 90_000_000 && grown < 32 * 1024 * 1024,
        "{bytes} bytes, grown by {grown}"
    );
    Ok(())
}

/// The most memory that a process has had so far, in bytes.
fn highest(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}
