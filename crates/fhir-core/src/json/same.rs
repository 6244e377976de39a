//! Whether two JSON values are the same.

use super::{Kind, Node};
use crate::number::compare_lexical;

/// Members that are searched for one by one; more are sorted.
const FEW: usize = 16;

/// What a member costs that is looked up, in values that are looked at.
const FOUND: u64 = 4;

/// What a member costs that is sorted, in values that are looked at.
const SORTED: u64 = 32;

/// Bytes that are compared in the time in which a value is looked at.
const BYTES: usize = 32;

impl<'a> Node<'a> {
    /// Whether both are the same JSON value: numbers by value, members in any order, of duplicates the last one. Adds to `work` the values
    /// that were looked at, and a share of the bytes.
    pub(crate) fn same(self, other: Node<'a>, work: &mut u64) -> bool {
        *work += 1;
        match (self.kind(), other.kind()) {
            (Kind::Array, Kind::Array) => {
                let (mut a, mut b) = (self.items(), other.items());
                loop {
                    match (a.next(), b.next()) {
                        (None, None) => return true,
                        (Some(a), Some(b)) if a.same(b, work) => {}
                        _ => return false,
                    }
                }
            }
            (Kind::Object, Kind::Object) => self.same_members(other, work),
            (Kind::Number, Kind::Number) => {
                let (a, b) = (self.text(), other.text());
                *work += (a.len() + b.len()) as u64;
                compare_lexical(a, b).is_eq()
            }
            (a, b) => a == b && same_text(self.text(), other.text(), work),
        }
    }

    fn is_wide(self) -> bool {
        self.members().nth(FEW).is_some()
    }

    fn count_last(self) -> usize {
        let last = self.members().filter(|(name, value)| self.is_last(name, *value));
        last.count()
    }

    fn same_members(self, other: Node<'a>, work: &mut u64) -> bool {
        if self.is_wide() || other.is_wide() {
            let Some(pairs) = self.pairs(other, work) else {
                return false;
            };
            return pairs.into_iter().all(|(a, b)| a.same(b, work));
        }
        // Most objects differ in one of the first members: that is told before the others are looked up.
        let mut count = 0;
        for (name, value) in self.members().filter(|(name, value)| self.is_last(name, *value)) {
            *work += FOUND;
            count += 1;
            if !other.member(name).is_some_and(|other| value.same(other, work)) {
                return false;
            }
        }
        count == other.count_last()
    }

    /// The values of the names that both objects have; `None` if one has a name that the other has not.
    pub(crate) fn pairs(self, other: Node<'a>, work: &mut u64) -> Option<Vec<(Node<'a>, Node<'a>)>> {
        if !self.is_wide() && !other.is_wide() {
            let mut pairs = Vec::new();
            for (name, value) in self.members().filter(|(name, value)| self.is_last(name, *value)) {
                *work += FOUND;
                pairs.push((value, other.member(name)?));
            }
            return (other.count_last() == pairs.len()).then_some(pairs);
        }
        let (mut a, mut b) = (self.last_members(), other.last_members());
        *work += SORTED * (a.len() + b.len()) as u64;
        if a.len() != b.len() {
            return None;
        }
        a.sort_unstable_by_key(|(name, _)| *name);
        b.sort_unstable_by_key(|(name, _)| *name);
        a.into_iter()
            .zip(b)
            .map(|((a, value), (b, other))| same_text(a, b, work).then_some((value, other)))
            .collect()
    }
}

fn same_text(a: &str, b: &str, work: &mut u64) -> bool {
    if a.len() != b.len() {
        return false;
    }
    *work += (a.len() / BYTES) as u64;
    a == b
}
