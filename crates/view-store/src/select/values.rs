//! Values of a statement: bound as parameters, and, where it is not plain that PostgreSQL takes them, asked about before.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgArguments;
use sqlx::{Arguments as _, AssertSqlSafe, PgConnection};

use crate::StoreError;
use crate::driver::sqlstate;
use crate::error::during;

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Argument {
    Text(String),
    Texts(Vec<String>),
    Number(i64),
    Time(DateTime<Utc>),
}

impl Argument {
    /// How much memory it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let text = |text: &String| size_of::<String>() + text.len();
        match self {
            Self::Text(value) => text(value),
            Self::Texts(values) => values.iter().map(text).sum(),
            Self::Number(_) | Self::Time(_) => size_of::<Self>(),
        }
    }
}

/// Values that PostgreSQL must be asked about before they are used.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ValueCheck {
    pub(super) column: String,
    pub(super) sql_type: String,
    pub(super) values: Vec<String>,
}

impl ValueCheck {
    /// Whether PostgreSQL reads the values as the column's type.
    pub(super) async fn run(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let sql = format!("SELECT ($1::text[])::{}[] IS NULL", self.sql_type);
        let checked = sqlx::query(AssertSqlSafe(sql))
            .bind(&self.values)
            .execute(connection)
            .await;
        match checked {
            Ok(_) => Ok(()),
            Err(error) if sqlstate(&error).is_some_and(|code| code.starts_with("22")) => {
                Err(StoreError::InvalidSelect(format!(
                    "a value for column {} is not a valid {}",
                    self.column, self.sql_type
                )))
            }
            Err(error) => Err(during("checking a condition's values")(error)),
        }
    }
}

/// Values as the driver takes them.
pub(crate) fn bound(values: &[Argument]) -> Result<PgArguments, StoreError> {
    let mut arguments = PgArguments::default();
    for value in values {
        match value {
            Argument::Text(value) => arguments.add(value),
            Argument::Texts(values) => arguments.add(values),
            Argument::Number(value) => arguments.add(value),
            Argument::Time(value) => arguments.add(value),
        }
        .map_err(|_| StoreError::InvalidSelect("a value is too long".into()))?;
    }
    Ok(arguments)
}
