//! People and tools that read the merged views in SQL while changes arrive: pandas over psycopg, a BI tool over JDBC, and psql. Each is a program of its own that
//! logs in as a reader, asks again and again, and holds what it gets to what the rows say of themselves.

mod world;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use e2e::{hapi, server};
use tokio::process::Command;

use self::world::{PASSWORD, World};

/// How often each client reads at least ...
const READS: usize = 24;

/// ... and until it has seen so many versions come: or nothing would have changed beside it.
const CHANGED: usize = 60;

/// How long they may take.
const PATIENCE: Duration = Duration::from_mins(2);

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/view_store/clients")
        .join(name)
}

/// What a client has printed; it fails if the client does.
async fn output(command: &mut Command) -> anyhow::Result<String> {
    let name = command.as_std().get_program().to_owned();
    let ended = command
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("{} cannot be run", name.display()))?;
    let (said, errors) = (
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
    );
    anyhow::ensure!(
        ended.status.success(),
        "{} failed: {said}{errors}",
        name.display()
    );
    Ok(said.into_owned())
}

/// `40 reads, 123 versions`, as the last line.
fn counts(said: &str) -> anyhow::Result<(usize, usize)> {
    let last = said.lines().last().context("nothing was said")?;
    let mut words = last.split(' ');
    let (reads, changed) = (words.next(), words.nth(1));
    let number = |word: Option<&str>| word?.parse().ok();
    number(reads)
        .zip(number(changed))
        .with_context(|| format!("no count in: {last}"))
}

/// pandas, over `SQLAlchemy` and psycopg.
async fn pandas(world: &World) -> anyhow::Result<(usize, usize)> {
    let own = server::target_folder()?.join("tools/python/bin/python");
    let python = if own.is_file() {
        own
    } else {
        server::find_program("python3", &[], "python3")?
    };
    let mut command = Command::new(python);
    command
        .arg(file("pandas_client.py"))
        .arg(world.reader_url())
        .args([READS, CHANGED].map(|count| count.to_string()));
    let said = output(&mut command)
        .await
        .context("pandas and psycopg come by: scripts/setup.sh run")?;
    counts(&said)
}

/// PostgreSQL's JDBC driver: the one that HAPI brings.
async fn jdbc(world: &World) -> anyhow::Result<(usize, usize)> {
    let java = server::find_program("java", &[], "default-jdk-headless")?;
    let libraries = hapi::build()?.join("lib");
    let driver = std::fs::read_dir(&libraries)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("postgresql-") && name.ends_with(".jar")
        });
    let driver = driver.context("HAPI's libraries hold PostgreSQL's driver")?;
    let mut command = Command::new(java);
    command
        .arg("-XX:TieredStopAtLevel=1")
        .arg("-cp")
        .arg(driver)
        .arg(file("BiClient.java"))
        .arg(world.jdbc_url())
        .args(["analyst", PASSWORD])
        .args([READS, CHANGED].map(|count| count.to_string()));
    counts(&output(&mut command).await?)
}

/// psql with a script, again and again; what it prints is looked at here.
async fn psql(world: &World) -> anyhow::Result<(usize, usize)> {
    let psql = server::find_program("psql", &[], "postgresql-client")?;
    let (mut reads, mut changed) = (0, 0);
    let mut newest = world::Versions::new();
    while reads < READS || changed < CHANGED {
        let mut command = Command::new(&psql);
        command
            .env("PGTZ", "UTC")
            .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only"])
            .args(["--set", "ON_ERROR_STOP=1", "--dbname"])
            .arg(world.reader_url());
        for _ in 0..READS / 2 {
            command.arg("--file").arg(file("psql_client.sql"));
        }
        let said = output(&mut command).await?;
        for read in said.split("read\n").filter(|read| !read.is_empty()) {
            let (rows, differ) = read
                .split_once("views differ by\n")
                .context("a read without its end")?;
            anyhow::ensure!(
                differ.trim() == "0",
                "rows that move are in both views, or in none"
            );
            for (id, version) in world::check(rows.lines())? {
                let before = newest.insert(id.clone(), version).unwrap_or(version);
                anyhow::ensure!(before <= version, "{id} goes back from {before} to {version}");
                changed += usize::from(before < version);
            }
            reads += 1;
        }
    }
    Ok((reads, changed))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pandas_a_bi_tool_and_psql_read_whole_rows_while_changes_arrive_and_refreshes_publish()
-> anyhow::Result<()> {
    let world = World::new().await?;
    let clients = async { tokio::join!(pandas(&world), jdbc(&world), psql(&world)) };
    let (pandas, jdbc, psql) = tokio::select! {
        ended = tokio::time::timeout(PATIENCE, clients) => ended.context("the clients do not come to an end")?,
        failed = world.change() => return failed,
    };
    let all = [("pandas", pandas), ("JDBC", jdbc), ("psql", psql)];
    let mut failures = Vec::new();
    for (client, counted) in all {
        match counted {
            Ok((READS.., CHANGED..)) => {}
            Ok((reads, changed)) => {
                failures.push(format!("{client}: {reads} reads saw {changed} versions come"));
            }
            Err(error) => failures.push(format!("{client}: {error:#}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn what_is_wrong_with_rows_is_found() {
    let row = |id: &str, version: i64, part: i64| world::row(id, version, part);
    let world: Vec<String> = (0..world::STEADY)
        .map(|number| row(&world::steady(number), 3, 1))
        .collect();
    let checked = |rows: &[String]| world::check(rows.iter().map(String::as_str)).is_ok();
    assert!(checked(&world));
    // A version later one has two rows, and its neighbour too.
    let later = |number: usize| {
        let id = world::steady(number);
        [row(&id, 4, 1), row(&id, 4, 2)]
    };
    let [both, half]: [Vec<String>; 2] = [2, 1].map(|changed| {
        let moved = (0..changed).flat_map(later);
        moved.chain(world[changed..].iter().cloned()).collect()
    });
    assert!(checked(&both));
    assert!(!checked(&half), "half of a change");
    assert!(!checked(&world[1..]), "one is missing");
    assert!(!checked(&both[1..]), "a row is missing");
    assert!(!checked(&[&both[..1], &both[..]].concat()), "a row is doubled");
    let mut mixed = both;
    mixed[1] = row(&world::steady(0), 7, 2);
    assert!(!checked(&mixed), "rows of two versions");
    let mut wrong = world;
    wrong[0] = wrong[0].replace("3.10", "3.1");
    assert!(!checked(&wrong), "a number that is not exact");
}
