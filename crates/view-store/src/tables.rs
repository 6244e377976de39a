//! The tables and public views of one view: names, columns, DDL.
//!
//! Three tables of one shape (hidden columns, then the definition's) in three schemas, and two public views over them without the hidden
//! columns. Columns are named in every statement: a replaced definition appends its new columns, so their order in the tables says nothing.

use std::fmt::Write as _;

use fhir_core::column::{Column, ColumnKind};
use fhir_core::view::CompiledView;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::error::during;
use crate::{StoreError, indexes, insert};

/// A column that the public views do not show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HiddenColumn {
    pub(crate) name: &'static str,
    definition: &'static str,
    /// PostgreSQL's fixed numbers of its type and of that type's array.
    pub(crate) oids: (i32, u32),
}

/// Hidden columns, in the order in which tuples carry them: the resource's id, version and time, and the row's number within the resource.
pub(crate) const HIDDEN: [HiddenColumn; 4] = [
    HiddenColumn {
        name: "_rid",
        definition: "text COLLATE \"C\" NOT NULL",
        oids: (25, 1009),
    },
    HiddenColumn {
        name: "_version",
        definition: "bigint NOT NULL",
        oids: (20, 1016),
    },
    HiddenColumn {
        name: "_updated",
        definition: "timestamptz NOT NULL",
        oids: (1184, 1185),
    },
    HiddenColumn {
        name: "_row",
        definition: "integer NOT NULL",
        oids: (23, 1007),
    },
];

/// The three tables of a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// Batch rows that nothing overrides.
    Base,
    /// Rows of states later than the batch's.
    Live,
    /// Batch rows that a live state hides.
    Shadowed,
}

impl Table {
    pub(crate) const ALL: [Self; 3] = [Self::Base, Self::Live, Self::Shadowed];

    /// What the merger needs on it: it moves rows that a live state hides, and puts live ones in their place.
    pub(crate) fn merger_rights(self) -> &'static str {
        match self {
            Self::Base => "SELECT, DELETE",
            Self::Live => "SELECT, INSERT, DELETE",
            Self::Shadowed => "SELECT, INSERT",
        }
    }

    pub(crate) fn schema(self) -> &'static str {
        match self {
            Self::Base => "sqlonfhir_base",
            Self::Live => "sqlonfhir_live",
            Self::Shadowed => "sqlonfhir_shadowed",
        }
    }

    /// Qualified and quoted name.
    pub(crate) fn of(self, view: &str) -> String {
        format!("{}.{}", self.schema(), quoted(view))
    }
}

/// An identifier, quoted: exactly as given.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Hidden and own columns, quoted, in the order in which tuples carry them.
pub(crate) fn all_columns(columns: &[Column]) -> String {
    insert::names(&insert::row_fields(columns))
}

/// FHIR's types whose texts are for machines: codes, identifiers, addresses, and dates in their lexical form.
const MACHINE_TYPES: [&str; 12] = [
    "base64Binary",
    "canonical",
    "code",
    "date",
    "dateTime",
    "id",
    "instant",
    "oid",
    "time",
    "uri",
    "url",
    "uuid",
];

/// A column's type, as in `CREATE TABLE`. What is for machines is compared byte by byte: several times as fast as by a language's rules, and the same after the
/// next release of the C library. Beside a column of the default collation it gives way to none, so the two can be compared.
pub(crate) fn column_type(column: &Column) -> String {
    let for_machines = || {
        indexes::is_key(&column.path)
            || column
                .fhir_type
                .as_deref()
                .is_some_and(|of| MACHINE_TYPES.contains(&of))
    };
    let collation = if column.kind == ColumnKind::Text && for_machines() {
        " COLLATE \"C\""
    } else {
        ""
    };
    format!("{}{collation}", column.sql_type())
}

/// Hidden and own columns with their types, as in `CREATE TABLE`.
pub(crate) fn shape(columns: &[Column]) -> String {
    let hidden = HIDDEN
        .iter()
        .map(|hidden| format!("{} {}", hidden.name, hidden.definition));
    let own = columns
        .iter()
        .map(|column| format!("{} {}", quoted(&column.name), column_type(column)));
    hidden.chain(own).collect::<Vec<_>>().join(", ")
}

/// What a valid definition may still ask that PostgreSQL cannot hold.
pub(crate) fn refuse_impossible(view: &CompiledView, definition: &str) -> Result<(), StoreError> {
    // What the registry keeps of a definition: PostgreSQL's text holds no such character.
    if view.url().is_some_and(|url| url.contains('\0')) || definition.contains('\0') {
        return Err(StoreError::InvalidDefinition(format!(
            "view {} holds the character U+0000, which PostgreSQL cannot keep",
            view.name()
        )));
    }
    Ok(())
}

/// Makes the three tables of a view whose rows lie in a table of the staging area already: that becomes the base table, the others are empty. Nobody
/// sees them before there are public views.
pub(crate) async fn make_of_staged(
    connection: &mut PgConnection,
    view: &CompiledView,
    staged: &str,
) -> Result<(), StoreError> {
    let doing = "making a view's tables";
    let mut ddl = String::new();
    for table in Table::ALL {
        // What an earlier release's attempt left.
        let _ = write!(ddl, "DROP TABLE IF EXISTS {}; ", table.of(view.name()));
    }
    let name = quoted(view.name());
    let _ = write!(
        ddl,
        "ALTER TABLE {staged} RENAME TO {name}; ALTER TABLE sqlonfhir_stage.{name} SET SCHEMA {}; ",
        Table::Base.schema()
    );
    for table in [Table::Live, Table::Shadowed] {
        let name = table.of(view.name());
        let (shape, indexes) = (shape(view.columns()), indexes::ddl(view, &name, &[]));
        let _ = write!(
            ddl,
            "CREATE TABLE {name} ({shape}); CREATE INDEX ON {name} (_rid); {indexes}"
        );
    }
    for table in Table::ALL {
        let (rights, name) = (table.merger_rights(), table.of(view.name()));
        let _ = write!(ddl, "GRANT {rights} ON {name} TO researchflow_merger; ");
    }
    execute(connection, ddl, doing).await?;
    name_indexes(connection, view.name(), staged).await
}

/// Indexes that were made in the staging area are named by the view, not by the load, unless something else has the name.
async fn name_indexes(connection: &mut PgConnection, view: &str, staged: &str) -> Result<(), StoreError> {
    let doing = "making a view's tables";
    let renames: Vec<String> = sqlx::query_scalar(
        "WITH named AS (SELECT c.relname::text AS old, $2 || substr(c.relname::text, octet_length($3) + 1) AS new \
                        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                        WHERE i.indrelid = $1::text::regclass AND starts_with(c.relname::text, $3)) \
         SELECT format('ALTER INDEX %I.%I RENAME TO %I; ', $4, old, new) FROM named WHERE octet_length(new) < 64 \
         AND NOT EXISTS (SELECT FROM pg_class WHERE relname = new AND relnamespace = $4::text::regnamespace)",
    )
    .bind(Table::Base.of(view))
    .bind(view)
    .bind(staged.rsplit('.').next())
    .bind(Table::Base.schema())
    .fetch_all(&mut *connection)
    .await
    .map_err(during(doing))?;
    execute(connection, renames.concat(), doing).await
}

/// The public views, over the three tables by name. `columns` in the order in which readers see them.
pub(crate) async fn create_public_views(
    connection: &mut PgConnection,
    view: &CompiledView,
    columns: &[String],
) -> Result<(), sqlx::Error> {
    let list = columns.iter().map(|c| quoted(c)).collect::<Vec<_>>().join(", ");
    let (base, live, shadowed) = (
        Table::Base.of(view.name()),
        Table::Live.of(view.name()),
        Table::Shadowed.of(view.name()),
    );
    let mut ddl = String::new();
    for (schema, other) in [("sqlonfhir", live), ("sqlonfhir_batch", shadowed)] {
        let name = format!("{schema}.{}", quoted(view.name()));
        let _ = write!(
            ddl,
            "CREATE OR REPLACE VIEW {name} AS SELECT {list} FROM {base} UNION ALL SELECT {list} FROM {other}; \
             GRANT SELECT ON {name} TO researchflow_reader, researchflow_merger; "
        );
        // One that a replacement leaves out goes: IS NULL.
        let text = view.description().map_or_else(|| "NULL".to_owned(), literal);
        let _ = write!(ddl, "COMMENT ON VIEW {name} IS {text}; ");
        for column in view
            .columns()
            .iter()
            .filter(|column| columns.contains(&column.name))
        {
            let text = column
                .description
                .as_deref()
                .map_or_else(|| "NULL".to_owned(), literal);
            let _ = write!(
                ddl,
                "COMMENT ON COLUMN {name}.{} IS {text}; ",
                quoted(&column.name)
            );
        }
    }
    sqlx::raw_sql(AssertSqlSafe(ddl))
        .execute(connection)
        .await
        .map(|_| ())
}

/// The columns of the public view as it is, in order; empty if there is none.
pub(crate) async fn public_columns(
    connection: &mut PgConnection,
    view: &str,
) -> Result<Vec<String>, StoreError> {
    sqlx::query_scalar(
        "SELECT a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace s ON s.oid = c.relnamespace \
         WHERE s.nspname = 'sqlonfhir' AND c.relname = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    )
    .bind(view)
    .fetch_all(connection)
    .await
    .map_err(during("reading a view's columns"))
}

/// Drops the public views and the tables. With `cascade` also what others have built on the public views.
pub(crate) async fn drop_all(
    connection: &mut PgConnection,
    view: &str,
    cascade: bool,
) -> Result<(), sqlx::Error> {
    let how = if cascade { "CASCADE" } else { "RESTRICT" };
    let name = quoted(view);
    let mut ddl = format!(
        "DROP VIEW IF EXISTS sqlonfhir.{name} {how}; DROP VIEW IF EXISTS sqlonfhir_batch.{name} {how}; "
    );
    for table in Table::ALL {
        let _ = write!(ddl, "DROP TABLE IF EXISTS {}; ", table.of(view));
    }
    sqlx::raw_sql(AssertSqlSafe(ddl))
        .execute(connection)
        .await
        .map(|_| ())
}

/// Runs statements that were built from quoted names alone.
pub(crate) async fn execute(
    connection: &mut PgConnection,
    sql: String,
    doing: &'static str,
) -> Result<(), StoreError> {
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(connection)
        .await
        .map_err(during(doing))?;
    Ok(())
}

/// A string literal: `E''` whatever `standard_conforming_strings` says.
pub(crate) fn literal(text: &str) -> String {
    format!(
        "E'{}'",
        text.replace('\\', "\\\\").replace('\'', "''").replace('\0', "")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_exactly_as_given() {
        assert_eq!(quoted("Plain"), "\"Plain\"");
        assert_eq!(quoted("a\"; DROP TABLE x; --"), "\"a\"\"; DROP TABLE x; --\"");
        assert_eq!(Table::Live.of("v"), "sqlonfhir_live.\"v\"");
    }

    #[test]
    fn literals_hold_quotes_and_backslashes() {
        assert_eq!(literal("it's a \\ b"), "E'it''s a \\\\ b'");
    }
}
