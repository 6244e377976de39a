//! Fills HAPI's real tables directly, with the rows that HAPI itself would write, streaming: no Java, any size.
//!
//! Three COPYs run beside each other (resources, versions, tags of resources); all of HAPI's keys and indexes come after the rows.

use std::collections::HashMap;

use anyhow::Context as _;
use sqlx::{Connection as _, PgConnection, postgres::PgCopyIn};
use tokio::sync::mpsc;

use crate::{
    servers::{Databases, execute},
    source::{Source, Stored, Tag, Wanted},
    tuples::{HEADER, TRAILER, Tuples},
};

/// HAPI's tables, as HAPI makes them.
const SCHEMA: &str = include_str!("../../../tests/fixtures/hapi-8.8.0.sql");

const RESOURCE: &str = "hfj_resource (res_id, fhir_id, res_type, res_type_id, res_ver, res_version, has_tags, res_published, res_updated, hash_sha256, \
     sp_index_status, sp_has_links, sp_coords_present, sp_date_present, sp_number_present, sp_quantity_nrml_present, sp_quantity_present, \
     sp_string_present, sp_token_present, sp_uri_present, search_url_present)";
const VERSION: &str = "hfj_res_ver (pid, res_id, res_type, res_type_id, res_ver, res_version, has_tags, res_published, res_updated, res_encoding, \
     request_id, res_text_vc)";
const RESOURCE_TAG: &str = "hfj_res_tag (pid, tag_id, res_id, res_type, res_type_id)";

/// A block of rows on its way to the three tables: blocks are few, so memory is small.
const BLOCK: usize = 1 << 20;
const BLOCKS: usize = 4;

/// Microseconds from PostgreSQL's epoch to 2025-01-01: the resources were written then, one each millisecond.
const BEGINNING: i64 = 789_004_800_000_000;

/// How much of a type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Amount {
    /// Bytes of stored text, at least.
    Bytes(u64),
    Resources(u64),
}

/// What a type has got.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filled {
    pub(crate) resource_type: String,
    pub(crate) resources: u64,
    /// Of stored text.
    pub(crate) bytes: u64,
}

impl Filled {
    fn reaches(&self, amount: Amount) -> bool {
        match amount {
            Amount::Bytes(bytes) => self.bytes >= bytes,
            Amount::Resources(resources) => self.resources >= resources,
        }
    }
}

/// Makes HAPI's tables in its database, fills them, indexes, vacuums, analyses.
pub(crate) async fn fill(
    databases: &Databases,
    source: &Source,
    amounts: &[(&'static str, Amount)],
) -> anyhow::Result<Vec<Filled>> {
    let start = std::time::Instant::now();
    let keys = SCHEMA.find("ALTER TABLE").context("the schema has keys")?;
    let (tables, keys) = SCHEMA.split_at(keys);
    execute(&databases.owner, tables).await?;
    let (sender, receiver) = mpsc::channel(BLOCKS);
    let writer = {
        let (source, amounts) = (source.clone(), amounts.to_vec());
        tokio::task::spawn_blocking(move || Writer::new(sender).write(&source, &amounts))
    };
    let copied = copy(&databases.owner, receiver).await;
    // Of two failures the writer's is the cause, unless it only found nobody to write to.
    let (filled, tags) = match (writer.await?, copied) {
        (Ok(written), Ok(())) => written,
        (_, Err(error)) | (Err(error), Ok(())) => return Err(error),
    };
    put_tags(&databases.owner, tags).await?;
    execute(&databases.owner, keys).await?;
    for table in ["hfj_resource", "hfj_res_ver", "hfj_res_tag", "hfj_tag_def"] {
        execute(&databases.owner, &format!("VACUUM ANALYZE {table}")).await?;
    }
    databases.checkpoint().await?;
    for one in &filled {
        println!(
            "filled: {} {} resources, {:.1} MB",
            one.resources,
            one.resource_type,
            one.bytes as f64 / 1e6
        );
    }
    println!("filled and indexed in {:.1} s", start.elapsed().as_secs_f64());
    Ok(filled)
}

/// Rows of the three tables.
#[derive(Debug, Default)]
struct Block {
    resources: Vec<u8>,
    versions: Vec<u8>,
    tags: Vec<u8>,
}

/// Tags that HAPI knows, by number.
type Tags = HashMap<Tag, i64>;

/// Turns resources into rows.
struct Writer {
    sender: mpsc::Sender<Block>,
    resources: Tuples,
    versions: Tuples,
    resource_tags: Tuples,
    tags: Tags,
    res_id: i64,
    tag_pid: i64,
}

impl Writer {
    fn new(sender: mpsc::Sender<Block>) -> Self {
        Self {
            sender,
            resources: Tuples::default(),
            versions: Tuples::default(),
            resource_tags: Tuples::default(),
            tags: Tags::new(),
            res_id: 0,
            tag_pid: 0,
        }
    }

    fn write(
        mut self,
        source: &Source,
        amounts: &[(&'static str, Amount)],
    ) -> anyhow::Result<(Vec<Filled>, Tags)> {
        let mut all = Vec::new();
        for (type_id, (resource_type, amount)) in (1..).zip(amounts) {
            let mut filled = Filled {
                resource_type: (*resource_type).to_owned(),
                ..Filled::default()
            };
            source.give(resource_type, |stored| {
                filled.resources += 1;
                filled.bytes += stored.text.len() as u64;
                self.put(resource_type, type_id, stored);
                if self.versions.len() >= BLOCK {
                    self.send()?;
                }
                Ok(if filled.reaches(*amount) {
                    Wanted::Enough
                } else {
                    Wanted::More
                })
            })?;
            all.push(filled);
        }
        self.send()?;
        Ok((all, self.tags))
    }

    fn put(&mut self, resource_type: &str, type_id: i16, stored: Stored) {
        self.res_id += 1;
        let (res_id, updated) = (self.res_id, BEGINNING + self.res_id * 1000);
        let has_tags = !stored.tags.is_empty();
        self.resources
            .row(21)
            .bigint(res_id)
            .text(&stored.id)
            .text(resource_type.as_bytes())
            .smallint(type_id)
            .bigint(1)
            .text(b"R4")
            .boolean(has_tags)
            .bigint(updated)
            .bigint(updated)
            .text(&hash(res_id))
            .smallint(1);
        // Which search parameters a resource has; most have references, dates, quantities and tokens.
        for present in [true, false, true, false, false, true, true, true, false, false] {
            self.resources.boolean(present);
        }
        self.versions
            .row(12)
            .bigint(res_id)
            .bigint(res_id)
            .text(resource_type.as_bytes())
            .smallint(type_id)
            .bigint(1)
            .text(b"R4")
            .boolean(has_tags)
            .bigint(updated)
            .bigint(updated)
            .text(b"JSON")
            .text(&hash(res_id / 100)[..16])
            .text(&stored.text);
        for tag in stored.tags {
            let next = (self.tags.len() as u64 + 1).cast_signed();
            let tag_id = *self.tags.entry(tag).or_insert(next);
            self.tag_pid += 1;
            self.resource_tags
                .row(5)
                .bigint(self.tag_pid)
                .bigint(tag_id)
                .bigint(res_id)
                .text(resource_type.as_bytes())
                .smallint(type_id);
        }
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let block = Block {
            resources: self.resources.take(),
            versions: self.versions.take(),
            tags: self.resource_tags.take(),
        };
        self.sender.blocking_send(block).context("the copying has ended")
    }
}

/// Stands for a hash: as long, and as little to be compressed.
fn hash(of: i64) -> [u8; 64] {
    let mut state = of.cast_unsigned();
    std::array::from_fn(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        b"0123456789abcdef"[(state >> 60) as usize]
    })
}

async fn copy(url: &str, mut blocks: mpsc::Receiver<Block>) -> anyhow::Result<()> {
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(PgConnection::connect(url).await?);
    }
    let [first, second, third] = connections.as_mut_slice() else {
        anyhow::bail!("three tables take three connections");
    };
    let mut resources = begin(first, RESOURCE).await?;
    let mut versions = begin(second, VERSION).await?;
    let mut tags = begin(third, RESOURCE_TAG).await?;
    while let Some(block) = blocks.recv().await {
        tokio::try_join!(
            resources.send(block.resources),
            versions.send(block.versions),
            tags.send(block.tags)
        )?;
    }
    for mut copy in [resources, versions, tags] {
        copy.send(TRAILER).await?;
        copy.finish().await?;
    }
    Ok(())
}

async fn begin<'c>(
    connection: &'c mut PgConnection,
    table: &str,
) -> anyhow::Result<PgCopyIn<&'c mut PgConnection>> {
    let mut copy = connection
        .copy_in_raw(&format!("COPY {table} FROM STDIN (FORMAT binary)"))
        .await?;
    copy.send(HEADER).await?;
    Ok(copy)
}

async fn put_tags(url: &str, tags: Tags) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    for (tag, tag_id) in tags {
        sqlx::query(
            "INSERT INTO hfj_tag_def (tag_id, tag_type, tag_system, tag_code, tag_display) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(tag_id)
        .bind(tag.kind)
        .bind(tag.system)
        .bind(tag.code)
        .bind(tag.display)
        .execute(&mut connection)
        .await?;
    }
    Ok(connection.close().await?)
}
