//! The physical parts of a full refresh, each alone: getting the texts out of HAPI's tables, parsing them, getting the rows in.
//!
//! A refresh that did one after the other, and nothing else, would take their sum; one that overlaps them may take less.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use fhir_core::{
    json::Tape,
    view::{CompiledView, ViewSet},
};
use futures::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::{
    catalogue::Catalogue,
    fill::Filled,
    indexes::indexes,
    refresh,
    report::{ROUNDS, median, ratio, speed},
    servers::{Databases, execute},
    sink::Columns,
};

const VIEW: &str = "observation_lab";
/// Texts that are parsed at a stroke, so that few are in memory.
const BATCH: usize = 16 << 20;

/// What a refresh reads of HAPI.
const TEXTS: &str = "SELECT r.fhir_id, r.res_ver, r.res_updated, v.res_text_vc FROM hfj_resource r JOIN hfj_res_ver v ON v.res_id = r.res_id AND v.res_ver = r.res_ver \
     WHERE r.res_type = 'Observation' AND r.res_deleted_at IS NULL";

#[derive(Default)]
struct Times {
    refresh: Vec<Duration>,
    out: Vec<Duration>,
    parse: Vec<Duration>,
    evaluate: Vec<Duration>,
    into: Vec<Duration>,
    index: Vec<Duration>,
}

pub(crate) async fn measure(
    databases: &Databases,
    catalogue: &Catalogue,
    filled: &[Filled],
) -> anyhow::Result<()> {
    let filled = filled.first().context("the observations are filled")?;
    let definition = catalogue.definition(VIEW)?;
    let set = ViewSet::new([CompiledView::from_json(&definition)?.into()]);
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        databases.put(std::slice::from_ref(&definition)).await?;
        databases.checkpoint().await?;
        let refreshed = refresh::in_process(databases, &filled.resource_type, filled.resources).await?;
        times.refresh.push(refreshed.time);
        times.out.push(copy_out(databases).await?);
        let (parse, evaluate) = read_texts(databases, &set).await?;
        times.parse.push(parse);
        times.evaluate.push(evaluate);
        databases.checkpoint().await?;
        let (into, index) = copy_in(databases).await?;
        times.into.push(into);
        times.index.push(index);
        databases.drop_views().await?;
    }
    println!("-- physical parts of a full refresh of {VIEW}, each alone");
    for (part, times) in [
        ("full refresh", &times.refresh),
        ("COPY out", &times.out),
        ("parse (sonic-rs)", &times.parse),
        ("evaluate (fhir-core)", &times.evaluate),
        ("COPY in", &times.into),
        ("indexes and ANALYZE", &times.index),
    ] {
        println!("{part}: {}", speed(filled.resources, filled.bytes, median(times)));
    }
    let sum = median(&times.out) + median(&times.parse) + median(&times.into);
    ratio("full_refresh_vs_sum_of_parts", median(&times.refresh), sum);
    Ok(())
}

/// The texts, sent and thrown away.
async fn copy_out(databases: &Databases) -> anyhow::Result<Duration> {
    let mut connection = PgConnection::connect(&databases.source).await?;
    let start = Instant::now();
    let sql = format!("COPY ({TEXTS}) TO STDOUT (FORMAT binary)");
    let mut copy = connection.copy_out_raw(&sql).await?;
    while let Some(bytes) = copy.try_next().await? {
        black_box(bytes);
    }
    drop(copy);
    let time = start.elapsed();
    connection.close().await?;
    Ok(time)
}

/// Parsing alone, by the fastest parser that builds a document, and evaluating alone.
async fn read_texts(databases: &Databases, set: &ViewSet) -> anyhow::Result<(Duration, Duration)> {
    let mut connection = PgConnection::connect(&databases.source).await?;
    let (mut parse, mut evaluate) = (Duration::ZERO, Duration::ZERO);
    let mut batch: Vec<String> = Vec::new();
    let mut size = 0;
    let sql = format!("SELECT res_text_vc FROM ({TEXTS}) t");
    let mut texts = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch(&mut connection);
    loop {
        let text = texts.try_next().await?;
        let ended = text.is_none();
        size += text.as_ref().map_or(0, String::len);
        batch.extend(text);
        if size < BATCH && !ended {
            continue;
        }
        let start = Instant::now();
        for text in &batch {
            black_box(sonic_rs::from_str::<sonic_rs::Value>(text)?);
        }
        parse += start.elapsed();
        let start = Instant::now();
        evaluate_all(set, &batch)?;
        evaluate += start.elapsed();
        (batch, size) = (Vec::new(), 0);
        if ended {
            return Ok((parse, evaluate));
        }
    }
}

fn evaluate_all(set: &ViewSet, texts: &[String]) -> anyhow::Result<()> {
    let mut tape = Tape::default();
    let mut sink = Columns::new(set.views()[0].columns().len());
    for text in texts {
        set.read(&mut tape, text.as_bytes())?.rows(0, &mut sink)?;
        sink.empty_if_full();
    }
    Ok(())
}

/// The rows of the view's table, sent into an empty one of the same shape; and its indexes and statistics.
async fn copy_in(databases: &Databases) -> anyhow::Result<(Duration, Duration)> {
    let table = format!("sqlonfhir_base.{VIEW}");
    let mut connection = PgConnection::connect(&databases.views).await?;
    let rows: Vec<_> = {
        let sql = format!("COPY {table} TO STDOUT (FORMAT binary)");
        connection.copy_out_raw(&sql).await?.try_collect().await?
    };
    execute(
        &databases.views,
        &format!("CREATE TABLE sqlonfhir_base.copied (LIKE {table})"),
    )
    .await?;
    let start = Instant::now();
    let mut copy = connection
        .copy_in_raw("COPY sqlonfhir_base.copied FROM STDIN (FORMAT binary)")
        .await?;
    for rows in rows.chunks(256) {
        copy.send(rows.concat()).await?;
    }
    copy.finish().await?;
    let into = start.elapsed();
    let mut statements: Vec<String> = indexes(databases, VIEW)
        .await?
        .iter()
        .map(|index| index.on("sqlonfhir_base.copied"))
        .collect();
    statements.push("ANALYZE sqlonfhir_base.copied".to_owned());
    let start = Instant::now();
    execute(&databases.views, &statements.join("; ")).await?;
    let index = start.elapsed();
    execute(&databases.views, "DROP TABLE sqlonfhir_base.copied").await?;
    connection.close().await?;
    Ok((into, index))
}
