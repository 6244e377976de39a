//! The model as a child process: schedules with what each step does and what the model holds after it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::Context as _;
use serde::Deserialize;

/// A schedule, played by the model.
#[derive(Debug, Deserialize)]
pub struct Run {
    pub seed: u64,
    pub margin: i64,
    pub steps: Vec<Step>,
    pub failed: Option<Vec<String>>,
}

/// One step.
#[derive(Debug, Deserialize)]
pub struct Step {
    pub action: String,
    /// Model time: seconds.
    pub now: i64,
    pub does: Vec<Deed>,
    /// `None`: as after the step before.
    pub holds: Option<Holds>,
}

/// What a step does to the world or to one of the daemons.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Deed {
    Begin {
        tx: u8,
        start: i64,
    },
    Write {
        tx: u8,
        savepoint: bool,
        state: State,
    },
    Commit {
        tx: u8,
    },
    Abort {
        tx: u8,
    },
    HapiRestore {
        timeline: i64,
        rows: BTreeMap<String, Vec<State>>,
    },
    Webhook {
        state: State,
        received: i64,
    },
    WebhookDelete,
    Tail {
        which: usize,
        capped: bool,
    },
    TailRestart {
        which: usize,
    },
    Merge {
        which: usize,
        size: usize,
    },
    MergerForget {
        which: usize,
    },
    Refresh {
        begins: Option<Kind>,
    },
    RefresherCrash,
    RefresherDrop,
    Zombie,
    AtLeast {
        id: String,
        version: i64,
        asked: i64,
    },
    Flush,
    DbCrash,
    StoreFsync,
    StoreSave,
    StoreCrash {
        to: Backup,
    },
    Expire,
}

/// Kind of a run that begins.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Incremental,
    Full,
    Join,
}

/// What a crash of the speed store leaves.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backup {
    Synced,
    Nothing,
    Backup,
}

/// A version of a resource, or its deletion, or (version 0) its expunge.
#[derive(Debug, Clone, Deserialize)]
pub struct State {
    pub id: String,
    pub version: i64,
    pub updated: i64,
    pub deleted: bool,
    pub content: i64,
    /// Tells re-creations apart: HAPI's internal row.
    pub life: i64,
}

/// What the model holds: compared with the real tables and keys.
#[derive(Debug, Clone, Deserialize, PartialEq)]
pub struct Holds {
    /// View -> table -> rows (id, version, updated, row number, value).
    pub views: BTreeMap<String, BTreeMap<String, Vec<(String, i64, i64, i64, i64)>>>,
    pub number: i64,
    pub newest: i64,
    pub ledger: BTreeMap<String, Entry>,
    pub speed: Option<Mark>,
    pub published: Option<Position>,
    pub mark: Option<Position>,
    pub readings: BTreeMap<String, Held>,
    pub previews: Vec<Waiting>,
    pub waiting: Vec<(String, i64, i64)>,
}

#[derive(Debug, Clone, Deserialize, PartialEq)]
pub struct Entry {
    pub n: i64,
    pub version: i64,
    pub layer: String,
    pub received: Option<i64>,
}

#[derive(Debug, Clone, Deserialize, PartialEq)]
pub struct Mark {
    pub n: i64,
    #[serde(rename = "T")]
    pub as_of: i64,
}

#[derive(Debug, Clone, Deserialize, PartialEq)]
pub struct Position {
    pub n: i64,
    #[serde(rename = "T")]
    pub as_of: i64,
    pub bound: i64,
    pub timeline: i64,
}

#[derive(Debug, Clone, Deserialize, PartialEq)]
pub struct Held {
    pub version: i64,
    pub updated: i64,
    pub deleted: bool,
    pub n: i64,
    #[serde(rename = "T")]
    pub as_of: i64,
}

#[derive(Debug, Clone, Deserialize, PartialEq)]
pub struct Waiting {
    pub id: String,
    pub version: i64,
    pub received: i64,
}

/// The running model.
pub struct Model {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Model {
    /// Plays `count` schedules from seed `first`.
    pub fn play(first: u64, count: u64) -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("model");
        let mut child = Command::new("python3")
            .arg("drive.py")
            .arg(first.to_string())
            .arg(count.to_string())
            .current_dir(folder)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .spawn()
            .context("the model needs Python 3.11: apt-get install python3")?;
        let out = child.stdout.take().context("the model has no output")?;
        Ok(Self {
            child,
            lines: BufReader::new(out).lines(),
        })
    }

    /// The next schedule.
    pub fn next(&mut self) -> anyhow::Result<Option<Run>> {
        let Some(line) = self.lines.next() else {
            let status = self.child.wait()?;
            anyhow::ensure!(status.success(), "the model failed: {status}");
            return Ok(None);
        };
        Ok(Some(serde_json::from_str(&line?)?))
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}
