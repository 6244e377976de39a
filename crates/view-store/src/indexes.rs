//! Which columns of a view are indexed: keys, by which views are joined and asked for, and what the definition tags with `index`.
//!
//! The hidden `_rid` has the key of the base table, and an index in the others.

use std::fmt::Write as _;

use fhir_core::column::{Column, ColumnKind};
use fhir_core::view::CompiledView;
use sqlx::PgConnection;

use crate::StoreError;
use crate::error::during;
use crate::tables::{self, Table, quoted};

/// The tag of a column that is to be indexed; its value says nothing, but for `false`.
const TAG: &str = "index";

/// Bytes of a value that an index takes: PostgreSQL's limit is a third of a page, 2,704 with its header.
pub(crate) const LONGEST: usize = 2_600;

/// Whether a column is indexed. A collection is not: what it holds is asked for by other operators.
pub(crate) fn is_indexed(column: &Column) -> bool {
    let tag = column.tags.iter().find(|(name, _)| name == TAG);
    let wanted = tag.map_or_else(
        || is_key(&column.path),
        |(_, value)| !value.eq_ignore_ascii_case("false"),
    );
    wanted && !column.collection && column.kind != ColumnKind::Json
}

/// Whether a path ends in a resource's or a reference's key.
pub(crate) fn is_key(path: &str) -> bool {
    let last = path.rsplit_once('.').map_or(path, |(_, last)| last).trim();
    last.starts_with("getResourceKey(") || last.starts_with("getReferenceKey(")
}

/// Statements that index a table of the view, where it is not.
pub(crate) fn ddl(view: &CompiledView, table: &str, present: &[String]) -> String {
    let mut ddl = String::new();
    let wanted = view.columns().iter().filter(|column| is_indexed(column));
    for column in wanted.filter(|column| !present.contains(&column.name)) {
        let _ = write!(ddl, "CREATE INDEX ON {table} ({}); ", quoted(&column.name));
    }
    ddl
}

/// The indexes that a replaced definition asks for beside those that its tables have.
pub(crate) async fn add(connection: &mut PgConnection, view: &CompiledView) -> Result<(), StoreError> {
    let doing = "indexing a replaced view";
    let mut missing = String::new();
    for table in Table::ALL {
        let table = table.of(view.name());
        let present: Vec<String> = sqlx::query_scalar(
            "SELECT a.attname::text FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
             WHERE i.indrelid = $1::text::regclass AND i.indnkeyatts = 1",
        )
        .bind(&table)
        .fetch_all(&mut *connection)
        .await
        .map_err(during(doing))?;
        missing += &ddl(view, &table, &present);
    }
    if missing.is_empty() {
        return Ok(());
    }
    tables::execute(connection, missing, doing).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(path: &str, tags: &[(&str, &str)]) -> Column {
        Column {
            name: "c".into(),
            kind: ColumnKind::Text,
            collection: false,
            fhir_type: None,
            description: None,
            path: path.into(),
            tags: tags
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()))
                .collect(),
        }
    }

    #[test]
    fn keys_and_what_is_tagged_are_indexed() {
        for path in [
            "getResourceKey()",
            "subject.getReferenceKey(Patient)",
            "item.a.getReferenceKey()",
        ] {
            assert!(is_indexed(&column(path, &[])), "{path}");
        }
        assert!(!is_indexed(&column("code", &[])));
        assert!(is_indexed(&column("code", &[("index", "btree")])));
        assert!(!is_indexed(&column("getResourceKey()", &[("index", "false")])));
        let list = Column {
            collection: true,
            ..column("code", &[("index", "true")])
        };
        assert!(!is_indexed(&list));
    }
}
