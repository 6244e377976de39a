//! Keys, indexes and statistics of what was loaded, made after the load: loading into an index costs more. Where there is much of it, several at
//! a time, over connections of their own.

use fhir_core::view::CompiledView;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use sqlx::{AssertSqlSafe, PgConnection};

use super::load::Load;
use crate::driver::sqlstate;
use crate::error::during;
use crate::tables::{self, quoted};
use crate::{StoreError, indexes};

const DOING: &str = "indexing what was loaded";

/// A key is there already.
const UNIQUE_VIOLATION: &str = "23505";

/// Indexes that are made, and tables that are finished, at the same time. Each takes a core and `maintenance_work_mem` of the views' PostgreSQL.
const AT_ONCE: usize = 3;

/// A table that a load has filled.
#[derive(Clone)]
pub(super) struct Filled {
    /// Qualified.
    pub(super) table: String,
    /// Columns of its key, the resource's id first.
    pub(super) key: &'static [&'static str],
    /// Columns that have an index each.
    pub(super) columns: Vec<String>,
}

/// An index of PostgreSQL's.
#[derive(sqlx::FromRow)]
struct Present {
    is_key: bool,
    is_unique: bool,
    columns: Vec<String>,
}

/// Indexes tables, over this connection, or several at a time over others that a load gives. Answers the ids that stand in the way of a key, since a
/// resource was loaded twice: then that table has no key yet. What an earlier attempt made is not made again.
pub(super) async fn index(
    tables: &[Filled],
    connection: &mut PgConnection,
    beside: Option<&Load>,
) -> Result<Vec<String>, StoreError> {
    let mut statements = Vec::new();
    for (place, filled) in tables.iter().enumerate() {
        let missing = filled.missing(connection).await?;
        statements.extend(missing.into_iter().map(|statement| (place, statement)));
    }
    let mut refused = Vec::new();
    match beside {
        None => {
            for (place, statement) in statements {
                if !make(connection, statement).await? {
                    refused.push(place);
                }
            }
        }
        Some(load) => {
            let made: Vec<(usize, bool)> = stream::iter(statements)
                .map(|(place, statement)| make_beside(load.clone(), place, statement))
                .buffer_unordered(AT_ONCE)
                .try_collect()
                .await?;
            let not_made = made.into_iter().filter(|(_, is_made)| !is_made);
            refused.extend(not_made.map(|(place, _)| place));
        }
    }
    let mut twice = Vec::new();
    for place in &refused {
        twice.extend(tables[*place].twice(connection).await?);
    }
    if twice.is_empty() {
        if !refused.is_empty() {
            return Err(StoreError::Inconsistent(
                "a key cannot be made, though no row is there twice".into(),
            ));
        }
        match beside {
            None => {
                for filled in tables {
                    filled.finish(connection).await?;
                }
            }
            Some(load) => {
                stream::iter(tables.to_vec())
                    .map(|filled| finish_beside(load.clone(), filled))
                    .buffer_unordered(AT_ONCE)
                    .try_collect::<Vec<()>>()
                    .await?;
            }
        }
    }
    Ok(twice)
}

/// Makes the index of the table at a place over a connection of its own.
async fn make_beside(load: Load, place: usize, statement: String) -> Result<(usize, bool), StoreError> {
    let mut connection = load.connection().await?;
    let is_made = make(&mut connection, statement).await?;
    load.give_back(connection).await?;
    Ok((place, is_made))
}

/// Makes an index; false if a key cannot be, since it is there twice.
async fn make(connection: &mut PgConnection, statement: String) -> Result<bool, StoreError> {
    match sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await {
        Ok(_) => Ok(true),
        // The catalogue's own: an index of that name is being made by a session that was given up.
        Err(error)
            if sqlstate(&error).as_deref() == Some(UNIQUE_VIOLATION) && !is_of_the_catalogue(&error) =>
        {
            Ok(false)
        }
        Err(error) if is_of_the_catalogue(&error) => Err(StoreError::Database {
            doing: DOING,
            reason: "the same index is being made by another session".into(),
            transient: true,
            data: false,
        }),
        Err(error) => Err(during(DOING)(error)),
    }
}

/// [`Filled::finish`], over a connection of its own.
async fn finish_beside(load: Load, filled: Filled) -> Result<(), StoreError> {
    let mut connection = load.connection().await?;
    filled.finish(&mut connection).await?;
    load.give_back(connection).await
}

fn is_of_the_catalogue(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::table)
        == Some("pg_class")
}

impl Filled {
    /// A table of a view's rows, with the indexes of its columns only if it becomes the base table: nobody asks the others by them.
    pub(super) fn of_rows(table: &str, view: &CompiledView, becomes_base_table: bool) -> Self {
        let indexed = view.columns().iter().filter(|column| indexes::is_indexed(column));
        Self {
            table: table.to_owned(),
            key: &["_rid", "_row"],
            columns: indexed
                .filter(|_| becomes_base_table)
                .map(|column| column.name.clone())
                .collect(),
        }
    }

    /// The table of the ids.
    pub(super) fn of_ids(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            key: &["id"],
            columns: Vec::new(),
        }
    }

    async fn present(&self, connection: &mut PgConnection) -> Result<Vec<Present>, StoreError> {
        sqlx::query_as(
            "SELECT i.indisprimary AS is_key, i.indisunique AS is_unique, \
                    ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k (number, place) \
                          JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY k.place) AS columns \
             FROM pg_index i WHERE i.indrelid = $1::text::regclass",
        )
        .bind(&self.table)
        .fetch_all(connection)
        .await
        .map_err(during(DOING))
    }

    /// The statements that make what is not there, the key's first.
    async fn missing(&self, connection: &mut PgConnection) -> Result<Vec<String>, StoreError> {
        let present = self.present(connection).await?;
        let (table, key) = (&self.table, self.key.join(", "));
        let mut statements = Vec::new();
        if !present.iter().any(|index| index.is_unique) {
            statements.push(format!(
                "CREATE UNIQUE INDEX {} ON {table} ({key})",
                self.key_name()
            ));
        }
        let is_there = |column: &String| present.iter().any(|index| index.columns == [column.as_str()]);
        let missing = self.columns.iter().filter(|column| !is_there(column));
        statements.extend(missing.map(|column| {
            let place = self.columns.iter().take_while(|other| *other != column).count();
            // By place: of long names PostgreSQL's own are cut, and two of them could be the same.
            let name = format!("{}_c{place}_idx", self.name());
            format!("CREATE INDEX {name} ON {table} ({})", quoted(column))
        }));
        Ok(statements)
    }

    /// As PostgreSQL would name it.
    fn key_name(&self) -> String {
        format!("{}_pkey", self.name())
    }

    /// Without its schema.
    fn name(&self) -> &str {
        self.table.rsplit('.').next().unwrap_or_default()
    }

    /// Ids of which a row is there twice.
    async fn twice(&self, connection: &mut PgConnection) -> Result<Vec<String>, StoreError> {
        let (table, id) = (&self.table, self.key.first().copied().unwrap_or_default());
        let key = self.key.join(", ");
        let sql = format!("SELECT DISTINCT {id} FROM {table} GROUP BY {key} HAVING count(*) > 1");
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_all(connection)
            .await
            .map_err(during(DOING))
    }

    /// Makes the unique index the key, and gathers statistics.
    async fn finish(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let (table, name) = (&self.table, self.key_name());
        if !self.has_key(connection).await? {
            let sql = format!("ALTER TABLE {table} ADD CONSTRAINT {name} PRIMARY KEY USING INDEX {name}");
            let made = tables::execute(connection, sql, DOING).await;
            // A session that was given up may have gone on, and made it meanwhile.
            if made.is_err() && !self.has_key(connection).await? {
                return made;
            }
        }
        tables::execute(connection, format!("ANALYZE {table}"), DOING).await
    }

    async fn has_key(&self, connection: &mut PgConnection) -> Result<bool, StoreError> {
        Ok(self.present(connection).await?.iter().any(|index| index.is_key))
    }
}
