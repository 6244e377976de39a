//! Sums as people compare them.

use bytes::Bytes;

/// In hexadecimal digits.
pub(crate) fn hex(digest: &[u8]) -> String {
    format!("{:x}", Bytes::copy_from_slice(digest))
}
