//! A `Binary` resource around the bytes of an answer, as they come.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// Writes the envelope.
pub(super) struct Envelope {
    /// What stands before the content; taken with the first bytes.
    head: Vec<u8>,
    /// Bytes that do not fill a group of three yet.
    left: Vec<u8>,
}

impl Envelope {
    pub(super) fn new(content_type: &str) -> Self {
        let head = format!(r#"{{"resourceType":"Binary","contentType":"{content_type}","data":""#);
        Self {
            head: head.into_bytes(),
            left: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.append(&mut self.head);
        self.left.extend_from_slice(bytes);
        let whole = self.left.len() - self.left.len() % 3;
        out.extend_from_slice(STANDARD.encode(&self.left[..whole]).as_bytes());
        self.left.drain(..whole);
    }

    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.head);
        out.extend_from_slice(STANDARD.encode(&self.left).as_bytes());
        self.left.clear();
        out.extend_from_slice(b"\"}");
    }
}
