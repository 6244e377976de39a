//! Encoded rows into a table: as one `INSERT … FROM unnest(arrays)` where they are few, by COPY where they are many.
//!
//! The driver leaves Nagle's algorithm on, and a COPY ends with a small message behind another: over TCP the two wait for the receiver's delayed
//! acknowledgement, 40 ms. A statement with its parameters is one message. So what must be visible at once goes by `INSERT`.

use fhir_core::column::Column;
use fhir_core::row::Cell;
use sqlx::encode::IsNull;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{AssertSqlSafe, Encode, PgConnection, Postgres, Type};

use crate::copy::copy_in;
use crate::encode::oids;
use crate::error::during;
use crate::tables::HIDDEN;
use crate::{StoreError, decode, tables};

/// Above so many bytes a COPY is faster although it waits.
const COPY_FROM: usize = 4 * 1024 * 1024;

/// Puts encoded rows of a view with these columns into `table` (qualified, quoted). Returns how many.
pub(crate) async fn put_rows(
    connection: &mut PgConnection,
    table: &str,
    columns: &[Column],
    tuples: &[&[u8]],
) -> Result<u64, StoreError> {
    let bytes: usize = tuples.iter().map(|t| t.len()).sum();
    if bytes == 0 {
        return Ok(0);
    }
    if bytes > COPY_FROM {
        return copy_in(
            connection,
            &format!("{table} ({})", tables::all_columns(columns)),
            tuples,
        )
        .await;
    }
    let arrays = transpose(columns, tuples)
        .ok_or_else(|| StoreError::Inconsistent("encoded rows are not of their view's columns".into()))?;
    let mut query = sqlx::query(AssertSqlSafe(insert_sql(table, columns)));
    for array in arrays {
        query = query.bind(array);
    }
    let done = query
        .execute(connection)
        .await
        .map_err(during("putting rows in"))?;
    Ok(done.rows_affected())
}

/// `INSERT INTO table (…) SELECT c1, …, cN::text[] FROM unnest($1, …, $N) AS rows (c1, …, cN)`. A collection travels as the text of its array,
/// since PostgreSQL has no arrays of arrays of different lengths.
fn insert_sql(table: &str, columns: &[Column]) -> String {
    let fields = HIDDEN.len() + columns.len();
    let list = |item: &dyn Fn(usize) -> String| (0..fields).map(item).collect::<Vec<_>>().join(", ");
    let selected = list(
        &|i| match i.checked_sub(HIDDEN.len()).and_then(|i| columns.get(i)) {
            Some(column) if column.collection => format!("c{i}::{}", column.sql_type()),
            _ => format!("c{i}"),
        },
    );
    format!(
        "INSERT INTO {table} ({}) SELECT {selected} FROM unnest({}) AS encoded ({})",
        tables::all_columns(columns),
        list(&|i| format!("${}", i + 1)),
        list(&|i| format!("c{i}")),
    )
}

/// One column of all rows, as PostgreSQL's binary array.
struct ColumnArray {
    member: i32,
    array: u32,
    has_null: bool,
    length: i32,
    members: Vec<u8>,
}

impl Type<Postgres> for ColumnArray {
    fn type_info() -> PgTypeInfo {
        // Each value says what it is.
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, Postgres> for ColumnArray {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, sqlx::error::BoxDynError> {
        for word in [1, i32::from(self.has_null), self.member, self.length, 1] {
            buffer.extend_from_slice(&word.to_be_bytes());
        }
        buffer.extend_from_slice(&self.members);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.array)))
    }
}

/// Tuples to columns: a tuple's field and an array's member have one form, length and value.
fn transpose(columns: &[Column], tuples: &[&[u8]]) -> Option<Vec<ColumnArray>> {
    let text = oids(fhir_core::column::ColumnKind::Text);
    let own = columns
        .iter()
        .map(|c| if c.collection { text } else { oids(c.kind) });
    let mut arrays: Vec<ColumnArray> = HIDDEN
        .iter()
        .map(|hidden| hidden.oids)
        .chain(own)
        .map(|(member, array)| ColumnArray {
            member,
            array,
            has_null: false,
            length: 0,
            members: Vec::new(),
        })
        .collect();
    for tuple in tuples {
        let mut rest = *tuple;
        while !rest.is_empty() {
            let (fields, after) = rest.split_first_chunk()?;
            rest = after;
            if usize::from(u16::from_be_bytes(*fields)) != arrays.len() {
                return None;
            }
            for (index, array) in arrays.iter_mut().enumerate() {
                let (length, after) = rest.split_first_chunk::<4>()?;
                array.length += 1;
                let Ok(size) = usize::try_from(i32::from_be_bytes(*length)) else {
                    array.has_null = true;
                    array.members.extend_from_slice(length);
                    rest = after;
                    continue;
                };
                let (value, after) = after.split_at_checked(size)?;
                rest = after;
                match index.checked_sub(HIDDEN.len()).and_then(|i| columns.get(i)) {
                    Some(column) if column.collection => {
                        let Ok(Cell::List(members)) = decode::cell(column, Some(value)) else {
                            return None;
                        };
                        let literal = array_literal(&members);
                        array
                            .members
                            .extend_from_slice(&i32::try_from(literal.len()).ok()?.to_be_bytes());
                        array.members.extend_from_slice(literal.as_bytes());
                    }
                    _ => {
                        array.members.extend_from_slice(length);
                        array.members.extend_from_slice(value);
                    }
                }
            }
        }
    }
    Some(arrays)
}

/// PostgreSQL's text of an array: every member quoted.
fn array_literal(members: &[Cell<'_>]) -> String {
    let members: Vec<String> = members
        .iter()
        .map(|member| match decode::text(member) {
            None => "NULL".into(),
            Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_literals_quote_every_member() {
        let members = [
            Cell::Text("a\"b\\c,{}".into()),
            Cell::Null,
            Cell::Text("NULL".into()),
            Cell::Boolean(true),
        ];
        assert_eq!(array_literal(&members), r#"{"a\"b\\c,{}",NULL,"NULL","true"}"#);
        assert_eq!(array_literal(&[]), "{}");
    }
}
