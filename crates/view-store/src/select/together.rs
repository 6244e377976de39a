//! Rows as they come from the driver: those together that came together.

use std::sync::Arc;

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::row::{self, Answer, Known, Layout, Row};
use super::tuple::Tuple;
use crate::StoreError;
use crate::error::during;

/// At least one row, or an error, which is the last. (Messages of COPY that are its frame alone are none: [`Together::is_empty`].)
pub(super) enum Together {
    /// By a prepared statement.
    Fetched(Vec<Result<PgRow, sqlx::Error>>),
    /// By COPY.
    Copied(Vec<Result<Tuple, sqlx::Error>>),
}

impl From<sqlx::Error> for Together {
    fn from(error: sqlx::Error) -> Self {
        Self::Copied(vec![Err(error)])
    }
}

impl Together {
    /// Of COPY's messages. None is left where they are the frame alone.
    pub(super) fn copied(messages: Vec<Result<Bytes, sqlx::Error>>) -> Self {
        let tuples = messages
            .into_iter()
            .filter_map(|message| message.map(Tuple::of).transpose());
        Self::Copied(tuples.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Fetched(rows) => rows.is_empty(),
            Self::Copied(tuples) => tuples.is_empty(),
        }
    }

    /// Whether nothing comes behind these.
    pub(super) fn failed(&self) -> bool {
        match self {
            Self::Fetched(rows) => rows.last().is_some_and(Result::is_err),
            Self::Copied(tuples) => tuples.last().is_some_and(Result::is_err),
        }
    }

    /// The error that came instead of a first row.
    pub(super) fn error(&self) -> Option<&sqlx::Error> {
        match self {
            Self::Fetched(rows) => rows.first()?.as_ref().err(),
            Self::Copied(tuples) => tuples.first()?.as_ref().err(),
        }
    }

    pub(super) fn into_error(self) -> Option<sqlx::Error> {
        match self {
            Self::Fetched(rows) => rows.into_iter().find_map(Result::err),
            Self::Copied(tuples) => tuples.into_iter().find_map(Result::err),
        }
    }

    /// What the first row tells of the view; `None`: it is one of the view's.
    pub(super) fn known(&self) -> Result<Option<Known>, StoreError> {
        let last = match self {
            Self::Fetched(rows) => match rows.first() {
                Some(Ok(row)) => row::fetched(row, row.len().saturating_sub(1))?,
                _ => None,
            },
            Self::Copied(tuples) => match tuples.first() {
                Some(Ok(tuple)) => tuple.fields().last().transpose()?.flatten(),
                _ => None,
            },
        };
        last.map(row::known).transpose()
    }

    /// The rows of the view among them.
    pub(super) fn answers(self, layout: &Arc<Layout>) -> Result<Vec<Answer>, StoreError> {
        match self {
            Self::Fetched(rows) => read(layout, rows, Row::Fetched),
            Self::Copied(tuples) => read(layout, tuples, Row::Copied),
        }
    }
}

fn read<T>(
    layout: &Arc<Layout>,
    rows: Vec<Result<T, sqlx::Error>>,
    row: impl Fn(T) -> Row,
) -> Result<Vec<Answer>, StoreError> {
    let mut answers = Vec::with_capacity(rows.len());
    for came in rows {
        let came = came.map_err(during("reading rows"))?;
        answers.extend(layout.read(row(came))?);
    }
    Ok(answers)
}
