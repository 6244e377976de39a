//! Encoded rows into a table: as one `INSERT … FROM unnest(arrays)` where they are few, by COPY where they are many.
//!
//! The driver leaves Nagle's algorithm on, and a COPY ends with a small message behind another: over TCP the two wait for the receiver's delayed
//! acknowledgement, 40 ms. A statement with its parameters is one message. So what must be visible at once goes by `INSERT`.

use std::borrow::Cow;

use fhir_core::column::{Column, ColumnKind};
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
pub(crate) const COPY_ABOVE: usize = 4 * 1024 * 1024;
/// Where others work meanwhile, the wait costs less than PostgreSQL's longer way from arrays to rows.
pub(crate) const COPY_ABOVE_BESIDE_OTHERS: usize = 128 * 1024;

/// A field of encoded tuples.
pub(crate) struct Field<'a> {
    /// The table's column, quoted.
    pub(crate) name: Cow<'a, str>,
    /// Its type, and that of an array of it.
    pub(crate) oids: (i32, u32),
    /// The view's column, if it holds a collection.
    pub(crate) collection: Option<&'a Column>,
}

/// Puts encoded rows of a view with these columns into `table` (qualified, quoted). Returns how many.
pub(crate) async fn put_rows(
    connection: &mut PgConnection,
    table: &str,
    columns: &[Column],
    tuples: &[&[u8]],
) -> Result<u64, StoreError> {
    put_tuples(connection, table, &row_fields(columns), tuples, COPY_ABOVE).await
}

/// The fields of the rows of a view with these columns, in the order in which tuples carry them: the hidden ones first.
pub(crate) fn row_fields(columns: &[Column]) -> Vec<Field<'_>> {
    let hidden = HIDDEN.iter().map(|hidden| Field {
        name: hidden.name.into(),
        oids: hidden.oids,
        collection: None,
    });
    let own = columns.iter().map(|column| Field {
        name: tables::quoted(&column.name).into(),
        oids: oids(if column.collection {
            ColumnKind::Text
        } else {
            column.kind
        }),
        collection: column.collection.then_some(column),
    });
    hidden.chain(own).collect()
}

/// Puts tuples of these fields into `table` (qualified, quoted), by COPY if they are more than so many bytes. Returns how many.
pub(crate) async fn put_tuples(
    connection: &mut PgConnection,
    table: &str,
    fields: &[Field<'_>],
    tuples: &[&[u8]],
    copy_above: usize,
) -> Result<u64, StoreError> {
    let bytes: usize = tuples.iter().map(|t| t.len()).sum();
    if bytes == 0 {
        return Ok(0);
    }
    if bytes > copy_above {
        return copy_in(connection, &format!("{table} ({})", names(fields)), tuples).await;
    }
    let mut query = sqlx::query(AssertSqlSafe(insert_sql(table, fields, 1)));
    for array in arrays(fields, tuples)? {
        query = query.bind(array);
    }
    let done = query
        .execute(connection)
        .await
        .map_err(during("putting rows in"))?;
    Ok(done.rows_affected())
}

/// `INSERT INTO table (…) SELECT c0, …, cN::text[] FROM unnest($1, …) AS encoded (c0, …, cN)`. A collection travels as the text of its array,
/// since PostgreSQL has no arrays of arrays of different lengths. The [`arrays`] are its parameters from `first` on.
pub(crate) fn insert_sql(table: &str, fields: &[Field<'_>], first: usize) -> String {
    let list = |item: &dyn Fn(usize) -> String| (0..fields.len()).map(item).collect::<Vec<_>>().join(", ");
    let selected = list(&|i| match fields[i].collection {
        Some(column) => format!("c{i}::{}", column.sql_type()),
        None => format!("c{i}"),
    });
    format!(
        "INSERT INTO {table} ({}) SELECT {selected} FROM unnest({}) AS encoded ({})",
        names(fields),
        list(&|i| format!("${}", i + first)),
        list(&|i| format!("c{i}")),
    )
}

/// The columns of these fields, as a statement lists them.
pub(crate) fn names(fields: &[Field<'_>]) -> String {
    let names: Vec<&str> = fields.iter().map(|field| field.name.as_ref()).collect();
    names.join(", ")
}

/// One column of all rows, as PostgreSQL's binary array.
pub(crate) struct ColumnArray {
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

/// The parameters of [`insert_sql`].
pub(crate) fn arrays(fields: &[Field<'_>], tuples: &[&[u8]]) -> Result<Vec<ColumnArray>, StoreError> {
    transpose(fields, tuples)
        .ok_or_else(|| StoreError::Inconsistent("encoded rows are not of their view's columns".into()))
}

/// Tuples to columns: a tuple's field and an array's member have one form, length and value.
fn transpose(fields: &[Field<'_>], tuples: &[&[u8]]) -> Option<Vec<ColumnArray>> {
    let mut arrays: Vec<ColumnArray> = fields
        .iter()
        .map(|field| ColumnArray {
            member: field.oids.0,
            array: field.oids.1,
            has_null: false,
            length: 0,
            members: Vec::new(),
        })
        .collect();
    for tuple in tuples {
        let mut rest = *tuple;
        while !rest.is_empty() {
            let (count, after) = rest.split_first_chunk()?;
            rest = after;
            if usize::from(u16::from_be_bytes(*count)) != arrays.len() {
                return None;
            }
            for (field, array) in fields.iter().zip(&mut arrays) {
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
                let Some(column) = field.collection else {
                    array.members.extend_from_slice(length);
                    array.members.extend_from_slice(value);
                    continue;
                };
                let Ok(Cell::List(members)) = decode::cell(column, Some(value)) else {
                    return None;
                };
                let literal = array_literal(&members);
                array
                    .members
                    .extend_from_slice(&i32::try_from(literal.len()).ok()?.to_be_bytes());
                array.members.extend_from_slice(literal.as_bytes());
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
