//! Resources of one type, as lines of one text.

use std::{fs::File, io::Read, ops::Range, path::Path};

use crate::Failure;

fn open(data: &Path, resource_type: &str) -> Result<impl Read, Failure> {
    let path = data.join(format!("{resource_type}.ndjson.gz"));
    let file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(flate2::read::MultiGzDecoder::new(file))
}

/// Resources, one after the other in memory, as a stream from a database lies there.
pub(crate) struct Corpus {
    text: Vec<u8>,
    lines: Vec<Range<usize>>,
}

impl Corpus {
    /// The first resources of a type, so many bytes of them and no more.
    pub(crate) fn beginning(data: &Path, resource_type: &str, size: usize) -> Result<Self, Failure> {
        let mut once = Vec::new();
        let size = u64::try_from(size)?;
        open(data, resource_type)?.take(size).read_to_end(&mut once)?;
        // The last line may be cut.
        let whole = once.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        once.truncate(whole);
        Ok(Self::repeated(&once, 1))
    }

    /// The resources of a type, again and again until there are so many bytes.
    pub(crate) fn read(data: &Path, resource_type: &str, size: usize) -> Result<Self, Failure> {
        let mut once = Vec::new();
        open(data, resource_type)?.read_to_end(&mut once)?;
        Ok(Self::repeated(&once, size))
    }

    fn repeated(once: &[u8], size: usize) -> Self {
        let mut corpus = Self {
            text: Vec::with_capacity(size + once.len()),
            lines: Vec::new(),
        };
        while corpus.text.len() < size && !once.is_empty() {
            for line in once.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                let start = corpus.text.len();
                corpus.text.extend_from_slice(line);
                corpus.lines.push(start..corpus.text.len());
            }
        }
        corpus
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
