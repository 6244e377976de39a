//! What `Cohort` asks, validated: counts and shapes; whether names exist, and how large a tree may be, is for the service to say.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};

use crate::{
    InvalidField,
    batch::resource_type,
    proto::serving as proto,
    query::{
        Filter, FreshnessDemand, MAX_DEPTH, MAX_TERMS, SearchParameter, filter, limit, search_parameter,
    },
    required, time,
};

/// How many types of resources may be asked for.
const MAX_TYPES: usize = 150;

/// Patients that have a row in a view under conditions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Criterion {
    /// Its place in the request, from 1: what messages call it by.
    pub number: usize,
    /// Name of the view.
    pub view: String,
    /// All must hold.
    pub filters: Vec<Filter>,
    /// All must hold.
    pub search: Vec<SearchParameter>,
    /// Only resources updated at or after this.
    pub since: Option<DateTime<Utc>>,
}

/// A tree of criteria, true or false of each patient by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CriterionTree {
    /// One criterion.
    Criterion(Criterion),
    /// All hold; one or more.
    All(Vec<CriterionTree>),
    /// Any holds; one or more.
    Any(Vec<CriterionTree>),
    /// Does not hold.
    Not(Box<CriterionTree>),
}

impl CriterionTree {
    /// All criteria, in the order of the request.
    pub fn criteria(&self) -> Vec<&Criterion> {
        match self {
            Self::Criterion(criterion) => vec![criterion],
            Self::All(trees) | Self::Any(trees) => trees.iter().flat_map(Self::criteria).collect(),
            Self::Not(tree) => tree.criteria(),
        }
    }

    /// How deep it nests; a criterion alone is 1 deep.
    pub fn depth(&self) -> usize {
        1 + match self {
            Self::Criterion(_) => 0,
            Self::All(trees) | Self::Any(trees) => trees.iter().map(Self::depth).max().unwrap_or(0),
            Self::Not(tree) => tree.depth(),
        }
    }
}

/// Which patients, and what of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cohort {
    /// Must hold of each patient.
    pub criteria: CriterionTree,
    /// Freshness.
    pub freshness: FreshnessDemand,
    /// Only the number of patients.
    pub count_only: bool,
    /// Types whose resources are wanted, each once.
    pub resource_types: Vec<String>,
    /// At most so many patients.
    pub limit: Option<i64>,
}

impl TryFrom<proto::CohortRequest> for Cohort {
    type Error = InvalidField;

    fn try_from(request: proto::CohortRequest) -> Result<Self, InvalidField> {
        let mut reader = Reader {
            terms: MAX_TERMS,
            criteria: 0,
        };
        let criteria = reader.tree(required("criteria", request.criteria)?)?;
        let resource_types = resource_types("resource_types", request.resource_types)?;
        if request.count_only && !resource_types.is_empty() {
            return Err(InvalidField::new(
                "resource_types",
                "must be empty with count_only: resources are sent beside the ids of their patients",
            ));
        }
        Ok(Self {
            criteria,
            freshness: request
                .freshness
                .map(FreshnessDemand::try_from)
                .transpose()?
                .unwrap_or_default(),
            count_only: request.count_only,
            resource_types,
            limit: limit("limit", request.limit)?,
        })
    }
}

/// Types of resources, each once.
pub fn resource_types(field: &'static str, names: Vec<String>) -> Result<Vec<String>, InvalidField> {
    if names.len() > MAX_TYPES {
        return Err(InvalidField::new(
            field,
            format!("may name {MAX_TYPES} types at most"),
        ));
    }
    let names = names
        .into_iter()
        .map(|name| resource_type(field, name))
        .collect::<Result<Vec<_>, _>>()?;
    let distinct: BTreeSet<&String> = names.iter().collect();
    if distinct.len() == names.len() {
        Ok(names)
    } else {
        Err(InvalidField::new(field, "must name each type once"))
    }
}

/// What was counted so far of a tree.
struct Reader {
    /// Conditions and values that may still come.
    terms: usize,
    criteria: usize,
}

impl Reader {
    /// Trees of messages are as deep as the decoder lets them be: about 100.
    fn tree(&mut self, tree: proto::CriterionTree) -> Result<CriterionTree, InvalidField> {
        use proto::criterion_tree::Tree;
        Ok(match required("criteria.tree", tree.tree)? {
            Tree::Criterion(criterion) => CriterionTree::Criterion(self.criterion(criterion)?),
            Tree::All(list) => CriterionTree::All(self.list(list)?),
            Tree::Any(list) => CriterionTree::Any(self.list(list)?),
            Tree::Negation(tree) => CriterionTree::Not(Box::new(self.tree(*tree)?)),
        })
    }

    fn list(&mut self, list: proto::CriterionList) -> Result<Vec<CriterionTree>, InvalidField> {
        if list.criteria.is_empty() {
            return Err(InvalidField::new(
                "criteria",
                "all and any need at least one criterion",
            ));
        }
        list.criteria.into_iter().map(|tree| self.tree(tree)).collect()
    }

    fn criterion(&mut self, criterion: proto::Criterion) -> Result<Criterion, InvalidField> {
        self.criteria += 1;
        let number = self.criteria;
        // The field's own path says nothing of which criterion it is in.
        let within = |invalid: InvalidField| {
            InvalidField::new(
                "criteria",
                format!("criterion {number}: {}: {}", invalid.field, invalid.rule),
            )
        };
        if criterion.view.is_empty() {
            return Err(within(InvalidField::new("view", "must name a view")));
        }
        let filters = criterion
            .filters
            .into_iter()
            .map(|asked| filter(asked, MAX_DEPTH, &mut self.terms))
            .collect::<Result<_, _>>()
            .map_err(within)?;
        let search = criterion
            .search
            .into_iter()
            .map(|asked| search_parameter(asked, &mut self.terms))
            .collect::<Result<_, _>>()
            .map_err(within)?;
        let since = criterion
            .since
            .as_ref()
            .map(|since| time::datetime("since", since))
            .transpose()
            .map_err(within)?;
        Ok(Criterion {
            number,
            view: criterion.view,
            filters,
            search,
            since,
        })
    }
}

#[cfg(test)]
mod tests {
    use proto::criterion_tree::Tree;

    use super::*;

    fn leaf(view: &str) -> proto::CriterionTree {
        tree(Tree::Criterion(proto::Criterion {
            view: view.into(),
            ..Default::default()
        }))
    }

    fn tree(tree: Tree) -> proto::CriterionTree {
        proto::CriterionTree { tree: Some(tree) }
    }

    fn all(criteria: Vec<proto::CriterionTree>) -> proto::CriterionTree {
        tree(Tree::All(proto::CriterionList { criteria }))
    }

    fn asked(request: proto::CohortRequest) -> Result<Cohort, String> {
        Cohort::try_from(request).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn criteria_are_numbered_and_trees_measured() {
        let criteria = all(vec![
            leaf("a"),
            tree(Tree::Negation(Box::new(leaf("b")))),
            leaf("c"),
        ]);
        let cohort = asked(proto::CohortRequest {
            criteria: Some(criteria),
            ..Default::default()
        })
        .expect("a cohort");
        let numbered: Vec<_> = cohort
            .criteria
            .criteria()
            .iter()
            .map(|c| (c.number, c.view.as_str()))
            .collect();
        assert_eq!(numbered, [(1, "a"), (2, "b"), (3, "c")]);
        assert_eq!(cohort.criteria.depth(), 3);
    }

    #[test]
    fn what_breaks_a_rule_is_said_with_its_place() {
        let of = |criteria| proto::CohortRequest {
            criteria: Some(criteria),
            ..Default::default()
        };
        let bad_time = tree(Tree::Criterion(proto::Criterion {
            view: "a".into(),
            since: Some(prost_types::Timestamp {
                seconds: 0,
                nanos: -1,
            }),
            ..Default::default()
        }));
        let with = |change: fn(&mut proto::CohortRequest)| {
            let mut request = of(leaf("a"));
            change(&mut request);
            request
        };
        for (request, message) in [
            (proto::CohortRequest::default(), "criteria: must be set"),
            (
                of(proto::CriterionTree { tree: None }),
                "criteria.tree: must be set",
            ),
            (of(all(vec![])), "at least one criterion"),
            (
                of(all(vec![leaf("a"), leaf("")])),
                "criterion 2: view: must name a view",
            ),
            (of(all(vec![leaf("a"), bad_time])), "criterion 2: since:"),
            (with(|r| r.limit = -1), "limit: "),
            (
                with(|r| r.resource_types = vec!["patient".into()]),
                "resource_types: must be the name",
            ),
            (
                with(|r| r.resource_types = vec!["A".into(), "A".into()]),
                "each type once",
            ),
            (with(|r| r.resource_types = vec!["A".into(); 151]), "150 types"),
            (
                with(|r| (r.count_only, r.resource_types) = (true, vec!["A".into()])),
                "with count_only",
            ),
        ] {
            let refused = asked(request).expect_err("refused");
            assert!(refused.contains(message), "{refused}");
        }
    }
}
