//! From a tree of criteria, true or false of each patient, to sets that can be looked up.
//!
//! A tree with a negation may be true of patients whom nothing finds. Such a tree is the complement of a set that can be looked up, and complements combine without anyone
//! knowing all patients:
//!
//! | | is |
//! | --- | --- |
//! | not S | all but S |
//! | S and T, S and all but T | the patients of S that are in T, that are not in T |
//! | all but S and all but T | all but (S or T) |
//! | S or T | the patients of either |
//! | S or all but T | all but (T without S) |
//!
//! Only a whole tree that comes out as "all but" needs the set of all patients.

use api::cohort::{Criterion, CriterionTree};
use view_store::Patients;

/// The patients of whom a tree is true.
#[derive(Debug)]
pub(super) enum Truth {
    /// These.
    Of(Patients),
    /// All but these.
    AllBut(Patients),
}

/// What the tree means; `leaf` has the patients of a criterion.
pub(super) fn truth<E>(
    tree: &CriterionTree,
    leaf: &mut impl FnMut(&Criterion) -> Result<Patients, E>,
) -> Result<Truth, E> {
    let mut split = |trees: &[CriterionTree]| {
        let (mut of, mut but) = (Vec::new(), Vec::new());
        for tree in trees {
            match truth(tree, leaf)? {
                Truth::Of(patients) => of.push(patients),
                Truth::AllBut(patients) => but.push(patients),
            }
        }
        Ok((of, but))
    };
    Ok(match tree {
        CriterionTree::Criterion(criterion) => Truth::Of(leaf(criterion)?),
        CriterionTree::Not(tree) => match truth(tree, leaf)? {
            Truth::Of(patients) => Truth::AllBut(patients),
            Truth::AllBut(patients) => Truth::Of(patients),
        },
        CriterionTree::All(trees) => match split(trees)? {
            (of, but) if of.is_empty() => Truth::AllBut(Patients::Any(but)),
            (of, without) => Truth::Of(Patients::All { of, without }),
        },
        CriterionTree::Any(trees) => match split(trees)? {
            (of, but) if but.is_empty() => Truth::Of(Patients::Any(of)),
            (without, of) => Truth::AllBut(Patients::All { of, without }),
        },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use view_store::{PatientKey, PatientRows};

    use super::*;

    /// Four criteria over patients 0 to 15: criterion i finds those with bit i.
    const ALL: u32 = 16;

    fn leaf(bit: u32) -> CriterionTree {
        CriterionTree::Criterion(Criterion {
            view: bit.to_string(),
            ..Criterion::default()
        })
    }

    fn rows(criterion: &Criterion) -> Patients {
        Patients::OfRows(PatientRows {
            view: criterion.view.clone(),
            hash: String::new(),
            key: PatientKey::OwnId,
            condition: None,
        })
    }

    /// Whether the tree is true of a patient, by logic alone.
    fn holds(tree: &CriterionTree, patient: u32) -> bool {
        match tree {
            CriterionTree::Criterion(criterion) => {
                patient >> criterion.view.parse::<u32>().expect("a bit") & 1 == 1
            }
            CriterionTree::All(trees) => trees.iter().all(|tree| holds(tree, patient)),
            CriterionTree::Any(trees) => trees.iter().any(|tree| holds(tree, patient)),
            CriterionTree::Not(tree) => !holds(tree, patient),
        }
    }

    fn members(set: &Patients) -> BTreeSet<u32> {
        match set {
            Patients::OfRows(rows) => {
                let bit: u32 = rows.view.parse().expect("a bit");
                (0..ALL).filter(|patient| patient >> bit & 1 == 1).collect()
            }
            Patients::Any(sets) => sets.iter().flat_map(members).collect(),
            Patients::All { of, without } => {
                assert!(!of.is_empty(), "an intersection of nothing is everything");
                (0..ALL)
                    .filter(|patient| of.iter().all(|set| members(set).contains(patient)))
                    .filter(|patient| without.iter().all(|set| !members(set).contains(patient)))
                    .collect()
            }
        }
    }

    /// All trees up to a depth, with lists of two.
    fn trees(depth: usize) -> Vec<CriterionTree> {
        let mut made: Vec<CriterionTree> = (0..2).map(leaf).collect();
        if depth == 0 {
            return made;
        }
        let below = trees(depth - 1);
        made.extend(
            below
                .iter()
                .map(|tree| CriterionTree::Not(Box::new(tree.clone()))),
        );
        for a in &below {
            for b in &below {
                made.push(CriterionTree::All(vec![a.clone(), b.clone()]));
                made.push(CriterionTree::Any(vec![a.clone(), b.clone()]));
            }
        }
        made
    }

    #[test]
    fn every_tree_means_what_logic_says() {
        let mut seen = [0, 0];
        for tree in trees(2) {
            let (set, complement) =
                match truth(&tree, &mut |criterion| Ok::<_, ()>(rows(criterion))).expect("sets") {
                    Truth::Of(set) => (set, false),
                    Truth::AllBut(set) => (set, true),
                };
            seen[usize::from(complement)] += 1;
            let set = members(&set);
            for patient in 0..ALL {
                assert_eq!(
                    set.contains(&patient) != complement,
                    holds(&tree, patient),
                    "{tree:?}"
                );
            }
        }
        assert!(seen.iter().all(|n| *n > 50), "{seen:?}");
    }
}
