//! A record: what is kept of one operation. It holds names of what the daemon knows, numbers, times and keyed hashes; never a value that was sent or given out.

use std::borrow::Cow;

use chrono::{DateTime, SubsecRound as _, Utc};
use serde::{Deserialize, Serialize};

use crate::operation::Action;

/// A text that is mostly one of ours.
type Word = Cow<'static, str>;

/// Why a line is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// The daemon has begun to record.
    Started,
    /// It stops, and all its operations have ended.
    Stopped,
    /// An operation begins: nothing was given out or changed yet. Only where `on_failure` is `refuse`.
    Begun,
    /// An operation has ended, one way or another.
    Ended,
}

/// Who asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Who {
    /// By the name that was proved; `anonymous` where none was.
    pub name: String,
    /// How it was proved: `certificate`, `token` or `jwt`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub proof: Option<Word>,
    /// Where the connection came from; a proxy's address behind one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<String>,
}

/// A condition on a column, a search parameter or a criterion.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condition {
    /// The column or parameter. See [`Asked`] on names.
    pub of: String,
    /// The operator, or the modifier of a search.
    pub operator: Word,
    /// Keyed hashes of the values, and of their parts that one may look for alone.
    pub values: Vec<String>,
}

/// What was asked. Names (views, columns, parameters, resource types, URLs) stand as they are once the daemon has answered by them; of a request that was
/// refused they are the caller's words, which may be anything, and stand as `#` and their keyed hash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// Names of views.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub views: Vec<String>,
    /// Names of columns that were asked for or given; none of a statement, whose columns are called as it says.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub columns: Vec<String>,
    /// Conditions on columns, whatever stands between them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub filters: Vec<Condition>,
    /// Search parameters.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub search: Vec<Condition>,
    /// Types of resources, if they are of R4.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub resource_types: Vec<String>,
    /// Keyed hashes of ids of patients that were named.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub patients: Vec<String>,
    /// Keyed hashes of ids of other resources that were named, or that are in what was put.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub ids: Vec<String>,
    /// Keyed hash of the text of the statement.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub statement: Option<String>,
    /// Keyed hashes of the texts and numbers that stand in the statement.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub literals: Vec<String>,
    /// Keyed hashes of the values that were bound to the statement.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub parameters: Vec<String>,
    /// Keyed hash of a definition, or Library, that came with the request.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub definition: Option<String>,
    /// The canonical URL that names what was run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub canonical: Option<String>,
    /// Only what changed since.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<DateTime<Utc>>,
    /// Rows, patients or resources at most.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<i64>,
    /// A number alone was asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub count_only: bool,
}

/// What was given out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Given {
    /// Rows of views, or ids of patients; of a call that was cut: up to the part that was being sent.
    pub rows: u64,
    /// Resources, or changes of them.
    pub resources: u64,
    /// Of the answer, as it goes over the connection: compressed, if it was.
    pub bytes: u64,
    /// `merged`, `batch`, `raw`, `speed` or `given`: what the rows come from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub layers: Option<Word>,
    /// Rows of the batch layer, where they are told apart.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub batch_rows: Option<i64>,
    /// Rows of the speed layer.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub speed_rows: Option<i64>,
    /// As the answer said it: all that HAPI had committed before is in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub as_of: Option<DateTime<Utc>>,
    /// The same of the batch layer alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub batch_as_of: Option<DateTime<Utc>>,
    /// The same of the speed layer alone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub speed_as_of: Option<DateTime<Utc>>,
}

/// One line of the file, without its place in the chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Why it is there.
    pub kind: Kind,
    /// Of the operation: the same in its `begun` and `ended`.
    pub id: String,
    /// When it was written, UTC, to the millisecond: of an operation when it began, or ended.
    pub time: DateTime<Utc>,
    /// The daemon that recorded it.
    pub daemon: Word,
    /// The daemon's version.
    pub version: Word,
    /// Name of the operation.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub operation: Option<Word>,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub action: Option<Action>,
    /// Who asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub who: Option<Who>,
    /// A code of HL7's PurposeOfUse.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub purpose: Option<Word>,
    /// The request's id, in answer and logs too.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
    /// Of W3C's trace context, if the request came with one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trace_id: Option<String>,
    /// Name of the key of the hashes.
    pub key: String,
    /// What was asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub asked: Option<Asked>,
    /// `ok`, a status of gRPC in small letters, or `cut`: the caller left, or its deadline passed, before the end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub outcome: Option<Word>,
    /// What was given out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub given: Option<Given>,
    /// How long the operation took.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seconds: Option<f64>,
}

impl Record {
    /// One of nothing but its kind.
    pub(crate) fn new(kind: Kind, id: String, now: DateTime<Utc>, daemon: &'static str, key: &str) -> Self {
        Self {
            kind,
            id,
            time: now.trunc_subsecs(3),
            daemon: daemon.into(),
            // All crates have the workspace's.
            version: env!("CARGO_PKG_VERSION").into(),
            operation: None,
            action: None,
            who: None,
            purpose: None,
            request_id: None,
            trace_id: None,
            key: key.to_owned(),
            asked: None,
            outcome: None,
            given: None,
            seconds: None,
        }
    }
}
