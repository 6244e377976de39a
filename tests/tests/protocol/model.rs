//! The model as a child process: schedules with what each step does and what the model holds after it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::Context as _;
use serde::Deserialize;

/// A schedule, played by the model.
#[derive(Debug, Deserialize)]
pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) margin: i64,
    pub(crate) steps: Vec<Step>,
    pub(crate) failed: Option<Vec<String>>,
}

/// One step.
#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    pub(crate) action: String,
    /// Model time: seconds.
    pub(crate) now: i64,
    pub(crate) does: Vec<Deed>,
    /// `None`: as after the step before.
    pub(crate) holds: Option<Holds>,
}

/// What a step does to the world or to one of the daemons.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Deed {
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
        to: Left,
    },
    Expire,
}

impl Deed {
    /// Whether it is done by or to a part of ours, rather than in HAPI.
    pub(crate) fn is_ours(&self) -> bool {
        !matches!(
            self,
            Self::Begin { .. }
                | Self::Write { .. }
                | Self::Commit { .. }
                | Self::Abort { .. }
                | Self::HapiRestore { .. }
        )
    }
}

/// Kind of a run that begins.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Incremental,
    Full,
    Join,
}

/// What a crash of the speed store leaves.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Left {
    Synced,
    Nothing,
    Backup,
}

/// A version of a resource, or its deletion, or (version 0) its expunge.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct State {
    pub(crate) id: String,
    pub(crate) version: i64,
    pub(crate) updated: i64,
    pub(crate) deleted: bool,
    pub(crate) content: i64,
    /// Tells re-creations apart: HAPI's internal row.
    pub(crate) life: i64,
}

/// View, table, rows: id, version, updated, row number, value.
pub(crate) type Views = BTreeMap<String, BTreeMap<String, Vec<Row>>>;
pub(crate) type Row = (String, i64, i64, i64, i64);

/// What the model holds: compared with the real tables and keys.
#[derive(Debug, Clone, Deserialize, PartialEq)]
pub(crate) struct Holds {
    pub(crate) views: Views,
    pub(crate) number: i64,
    pub(crate) newest: i64,
    pub(crate) ledger: BTreeMap<String, Entry>,
    pub(crate) speed: Option<Mark>,
    pub(crate) published: Option<Position>,
    pub(crate) mark: Option<Position>,
    pub(crate) readings: BTreeMap<String, Held>,
    pub(crate) previews: Vec<Waiting>,
    pub(crate) waiting: Vec<(String, i64, i64)>,
}

#[derive(Debug, Clone, Deserialize, PartialEq)]
pub(crate) struct Entry {
    pub(crate) n: i64,
    pub(crate) version: i64,
    pub(crate) layer: String,
    pub(crate) received: Option<i64>,
}

#[derive(Debug, Clone, Deserialize, PartialEq)]
pub(crate) struct Mark {
    pub(crate) n: i64,
    #[serde(rename = "T")]
    pub(crate) as_of: i64,
}

#[derive(Debug, Clone, Deserialize, PartialEq)]
pub(crate) struct Position {
    pub(crate) n: i64,
    #[serde(rename = "T")]
    pub(crate) as_of: i64,
    pub(crate) bound: i64,
    pub(crate) timeline: i64,
}

#[derive(Debug, Clone, Deserialize, PartialEq)]
pub(crate) struct Held {
    pub(crate) version: i64,
    pub(crate) updated: i64,
    pub(crate) deleted: bool,
    pub(crate) n: i64,
    #[serde(rename = "T")]
    pub(crate) as_of: i64,
}

#[derive(Debug, Clone, Deserialize, PartialEq)]
pub(crate) struct Waiting {
    pub(crate) id: String,
    pub(crate) version: i64,
    pub(crate) received: i64,
}

/// The running model.
pub(crate) struct Model {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Model {
    /// Plays `count` schedules from seed `first`.
    pub(crate) fn play(first: u64, count: u64) -> anyhow::Result<Self> {
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
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Run>> {
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
