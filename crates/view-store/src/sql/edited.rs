//! A text in which parts were replaced, and the way back: errors point into the text that the caller wrote.

use std::ops::Range;

/// A text with replacements. Places are counted in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    text: String,
    edits: Vec<Edit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    /// Where the new text lies.
    new: Range<usize>,
    /// What it stands for.
    original: Range<usize>,
}

impl Edited {
    /// Replaces ranges of `original`, which lie in their order and do not overlap; an empty range inserts.
    pub fn of(original: &str, replacements: &[(Range<usize>, String)]) -> Self {
        let (mut text, mut edits, mut done) = (String::with_capacity(original.len()), Vec::new(), 0);
        for (range, new) in replacements {
            text.push_str(original.get(done..range.start).unwrap_or_default());
            let start = text.len();
            text.push_str(new);
            edits.push(Edit {
                new: start..text.len(),
                original: range.clone(),
            });
            done = range.end;
        }
        text.push_str(original.get(done..).unwrap_or_default());
        Self { text, edits }
    }

    /// With the replacements.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The place in the original of a place in the text; that of something new is where it was put.
    pub fn original(&self, at: usize) -> usize {
        let Some(edit) = self.edits.iter().rev().find(|edit| edit.new.start <= at) else {
            return at;
        };
        if at < edit.new.end {
            edit.original.start
        } else {
            edit.original.end + (at - edit.new.end)
        }
    }

    /// The place in the original of a character of the text, counted from 1.
    pub(crate) fn original_of_character(&self, character: usize) -> usize {
        let place = self.text.char_indices().nth(character.saturating_sub(1));
        self.original(place.map_or(self.text.len(), |(at, _)| at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lead_back_to_what_was_written() {
        let edited = Edited::of(
            "é = :a AND :bc",
            &[
                (0..0, "(".into()),
                (5..7, "$1".into()),
                (12..15, "($2::date)".into()),
            ],
        );
        assert_eq!(edited.text(), "(é = $1 AND ($2::date)");
        assert_eq!(edited.original(0), 0);
        assert_eq!(edited.original(1), 0);
        assert_eq!(edited.original(6), 5);
        assert_eq!(edited.original(9), 8);
        assert_eq!(edited.original(15), 12);
        assert_eq!(edited.original(edited.text().len()), 15);
        // The AND: characters, not bytes.
        assert_eq!(edited.original_of_character(9), 8);
        assert_eq!(edited.original_of_character(900), 15);
    }
}
