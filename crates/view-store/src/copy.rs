//! Binary COPY: the frame around tuples, sending them, and having them sent.

use sqlx::PgConnection;

use crate::StoreError;
use crate::error::during;

/// Signature, flags, length of the header's extension.
pub(crate) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// A tuple of -1 fields ends the data.
pub(crate) const TRAILER: &[u8] = &(-1_i16).to_be_bytes();

/// Puts binary tuples into `target`, a qualified quoted table name with the columns in the order of the tuples: `"t" (a, b)`. Returns how many.
pub(crate) async fn copy_in(
    connection: &mut PgConnection,
    target: &str,
    tuples: &[&[u8]],
) -> Result<u64, StoreError> {
    let doing = during("copying rows in");
    if tuples.iter().all(|t| t.is_empty()) {
        return Ok(0);
    }
    let mut copy = connection
        .copy_in_raw(&format!("COPY {target} FROM STDIN (FORMAT binary)"))
        .await
        .map_err(doing)?;
    let mut buffer = HEADER.to_vec();
    for tuple in tuples {
        buffer.extend_from_slice(tuple);
        if buffer.len() >= CHUNK {
            copy.send(buffer.as_slice()).await.map_err(doing)?;
            buffer.clear();
        }
    }
    buffer.extend_from_slice(TRAILER);
    copy.send(buffer.as_slice()).await.map_err(doing)?;
    copy.finish().await.map_err(doing)
}

/// The statement that has the rows of a query without parameters sent. Each comes in a message of its own; the header stands before the first, the trailer comes alone.
pub(crate) fn out(query: &str) -> String {
    format!("COPY ({query}) TO STDOUT (FORMAT binary)")
}

/// Bytes sent at once: enough that a message costs little, few enough that memory does not.
const CHUNK: usize = 256 * 1024;
