//! Resources of one type, as lines of one text.

use std::{fs::File, io::Read as _, ops::Range, path::Path};

use crate::Failure;

/// Resources, one after the other in memory, as a stream from a database lies there.
pub(crate) struct Corpus {
    text: Vec<u8>,
    lines: Vec<Range<usize>>,
}

impl Corpus {
    /// The resources of a type, again and again until there are so many bytes.
    pub(crate) fn read(data: &Path, resource_type: &str, size: usize) -> Result<Self, Failure> {
        let path = data.join(format!("{resource_type}.ndjson.gz"));
        let file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut once = Vec::new();
        flate2::read::MultiGzDecoder::new(file).read_to_end(&mut once)?;
        let mut corpus = Self {
            text: Vec::with_capacity(size + once.len()),
            lines: Vec::new(),
        };
        while corpus.text.len() < size.max(1) {
            for line in once.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let start = corpus.text.len();
                corpus.text.extend_from_slice(line);
                corpus.lines.push(start..corpus.text.len());
            }
        }
        Ok(corpus)
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    pub(crate) fn lines(&self, range: Range<usize>) -> impl Iterator<Item = &[u8]> {
        self.lines[range].iter().map(|line| &self.text[line.clone()])
    }
}
