//! What `Query` asks, validated: counts and shapes; whether names exist is for the service to say.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    InvalidField, batch::resource_type, field::without_nul, page::Page, proto::serving as proto, required,
    time,
};

/// How deep conditions may nest.
pub(crate) const MAX_DEPTH: usize = 32;
/// How many conditions and values a request may have in all.
pub(crate) const MAX_TERMS: usize = 10_000;
/// How many versions may be waited for.
const MAX_AT_LEAST: usize = 1_000;

/// Which layers an answer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layers {
    /// Batch and live rows.
    #[default]
    Merged,
    /// Only what the batch has published.
    Batch,
}

/// A comparison's operator, with its right number of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it; the contract documents them")]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Like,
    IsNull,
    IsNotNull,
}

/// A tree of conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// One column.
    Compare {
        /// Its name.
        column: String,
        /// Operator.
        operator: Operator,
        /// One; for `In` one or more; for the null tests none.
        values: Vec<String>,
    },
    /// All hold.
    All(Vec<Filter>),
    /// Any holds.
    Any(Vec<Filter>),
    /// Does not hold.
    Not(Box<Filter>),
}

/// A FHIR search parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchParameter {
    /// Name.
    pub name: String,
    /// Modifier without the colon; empty for none.
    pub modifier: String,
    /// Alternatives.
    pub values: Vec<String>,
}

/// A column to order by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Name.
    pub column: String,
    /// Greatest first.
    pub descending: bool,
}

/// A version that must be visible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceVersion {
    /// Type.
    pub resource_type: String,
    /// Logical id.
    pub id: String,
    /// Version, 1 or more.
    pub version: i64,
}

/// How fresh an answer must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FreshnessDemand {
    /// Refuse anything older.
    pub max_staleness: Option<TimeDelta>,
    /// Wait for these.
    pub at_least: Vec<ResourceVersion>,
    /// Layers.
    pub layers: Layers,
    /// Show no less than answers before.
    pub not_before: Option<NotBefore>,
}

/// Before what an answer must not be read, where there are several servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotBefore {
    /// Before nothing: it is the first one of several answers.
    Start,
    /// Before this place of PostgreSQL's log.
    Position(u64),
}

impl NotBefore {
    /// What a text that cannot be read is told.
    pub const RULE: &str = "must be start, or the position of an answer before";

    /// From `start`, or a position as answers have it.
    pub fn read(text: &str) -> Option<Self> {
        if text == "start" {
            return Some(Self::Start);
        }
        let digits = (1..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let position = u64::from_str_radix(text, 16).ok().filter(|_| digits)?;
        Some(Self::Position(position))
    }

    /// The place, if there is one.
    pub fn position(self) -> Option<u64> {
        match self {
            Self::Start => None,
            Self::Position(position) => Some(position),
        }
    }
}

/// A question over one view.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// Name of the view.
    pub view: String,
    /// Columns wanted; none means all.
    pub columns: Vec<String>,
    /// All must hold.
    pub filters: Vec<Filter>,
    /// All must hold.
    pub search: Vec<SearchParameter>,
    /// Only resources updated at or after this.
    pub since: Option<DateTime<Utc>>,
    /// At most so many resources.
    pub max_resources: Option<i64>,
    /// At most so many rows.
    pub limit: Option<i64>,
    /// Order.
    pub order: Vec<Order>,
    /// A page of the rows.
    pub page: Option<Page>,
    /// Freshness.
    pub freshness: FreshnessDemand,
    /// Only the number of rows.
    pub count_only: bool,
}

impl TryFrom<proto::QueryRequest> for Query {
    type Error = InvalidField;

    fn try_from(request: proto::QueryRequest) -> Result<Self, InvalidField> {
        if request.view.is_empty() {
            return Err(InvalidField::new("view", "must name a view"));
        }
        let page = Page::of(&request)?;
        let mut terms = MAX_TERMS;
        let filters = request
            .filters
            .into_iter()
            .map(|f| filter(f, MAX_DEPTH, &mut terms))
            .collect::<Result<_, _>>()?;
        let search = request
            .search
            .into_iter()
            .map(|s| search_parameter(s, &mut terms))
            .collect::<Result<_, _>>()?;
        let order = request
            .order
            .into_iter()
            .map(|order| Order {
                column: order.column,
                descending: order.descending,
            })
            .collect();
        Ok(Self {
            view: request.view,
            columns: request.columns,
            filters,
            search,
            since: request
                .since
                .as_ref()
                .map(|since| time::datetime("since", since))
                .transpose()?,
            max_resources: limit("max_resources", request.max_resources)?,
            limit: limit("limit", request.limit)?,
            order,
            page,
            freshness: request
                .freshness
                .map(FreshnessDemand::try_from)
                .transpose()?
                .unwrap_or_default(),
            count_only: request.count_only,
        })
    }
}

impl TryFrom<proto::FreshnessDemand> for FreshnessDemand {
    type Error = InvalidField;

    fn try_from(demand: proto::FreshnessDemand) -> Result<Self, InvalidField> {
        if demand.at_least.len() > MAX_AT_LEAST {
            return Err(InvalidField::new(
                "freshness.at_least",
                format!("may hold {MAX_AT_LEAST} versions at most"),
            ));
        }
        let layers = match demand.layers() {
            // An unknown number is read as unspecified by the generated getter: refuse it instead of guessing.
            proto::Layers::Unspecified if demand.layers != 0 => {
                return Err(InvalidField::new(
                    "freshness.layers",
                    "must be LAYERS_MERGED or LAYERS_BATCH",
                ));
            }
            proto::Layers::Unspecified | proto::Layers::Merged => Layers::Merged,
            proto::Layers::Batch => Layers::Batch,
        };
        Ok(Self {
            max_staleness: demand
                .max_staleness
                .as_ref()
                .map(|span| time::span("freshness.max_staleness", span))
                .transpose()?,
            at_least: demand
                .at_least
                .into_iter()
                .map(ResourceVersion::try_from)
                .collect::<Result<_, _>>()?,
            layers,
            not_before: match demand.not_before.as_str() {
                "" => None,
                text => Some(
                    NotBefore::read(text)
                        .ok_or_else(|| InvalidField::new("freshness.not_before", NotBefore::RULE))?,
                ),
            },
        })
    }
}

impl TryFrom<proto::ResourceVersion> for ResourceVersion {
    type Error = InvalidField;

    fn try_from(version: proto::ResourceVersion) -> Result<Self, InvalidField> {
        if version.id.is_empty() {
            return Err(InvalidField::new("freshness.at_least.id", "must be set"));
        }
        without_nul("freshness.at_least.id", std::slice::from_ref(&version.id))?;
        if version.version < 1 {
            return Err(InvalidField::new(
                "freshness.at_least.version",
                "must be 1 or more, as in the ETag of the write",
            ));
        }
        let resource_type = resource_type("freshness.at_least.resource_type", version.resource_type)?;
        Ok(Self {
            resource_type,
            id: version.id,
            version: version.version,
        })
    }
}

/// 0 means none.
pub(crate) fn limit(field: &'static str, limit: i64) -> Result<Option<i64>, InvalidField> {
    match limit {
        0 => Ok(None),
        1.. => Ok(Some(limit)),
        _ => Err(InvalidField::new(field, "must be 0, for no limit, or more")),
    }
}

fn count(field: &'static str, terms: &mut usize, used: usize) -> Result<(), InvalidField> {
    *terms = terms.checked_sub(used).ok_or_else(|| {
        InvalidField::new(
            field,
            format!("has more than {MAX_TERMS} conditions and values in all"),
        )
    })?;
    Ok(())
}

pub(crate) fn filter(filter: proto::Filter, depth: usize, terms: &mut usize) -> Result<Filter, InvalidField> {
    use proto::filter::Filter as Kind;
    let Some(depth) = depth.checked_sub(1) else {
        return Err(InvalidField::new(
            "filters",
            format!("may nest {MAX_DEPTH} deep at most"),
        ));
    };
    count("filters", terms, 1)?;
    let mut list = |list: proto::FilterList| {
        if list.filters.is_empty() {
            return Err(InvalidField::new(
                "filters",
                "all and any need at least one condition",
            ));
        }
        list.filters
            .into_iter()
            .map(|f| self::filter(f, depth, terms))
            .collect::<Result<Vec<_>, _>>()
    };
    match required("filters.filter", filter.filter)? {
        Kind::All(all) => Ok(Filter::All(list(all)?)),
        Kind::Any(any) => Ok(Filter::Any(list(any)?)),
        Kind::Negation(inner) => Ok(Filter::Not(Box::new(self::filter(*inner, depth, terms)?))),
        Kind::Comparison(comparison) => {
            count("filters", terms, comparison.values.len())?;
            self::comparison(comparison)
        }
    }
}

fn comparison(comparison: proto::Comparison) -> Result<Filter, InvalidField> {
    use proto::Operator as Asked;
    if comparison.column.is_empty() {
        return Err(InvalidField::new(
            "filters.comparison.column",
            "must name a column",
        ));
    }
    let operator = match comparison.operator() {
        Asked::Unspecified => {
            return Err(InvalidField::new(
                "filters.comparison.operator",
                "must be OPERATOR_EQUAL, OPERATOR_NOT_EQUAL, OPERATOR_LESS, OPERATOR_LESS_OR_EQUAL, OPERATOR_GREATER, \
                 OPERATOR_GREATER_OR_EQUAL, OPERATOR_IN, OPERATOR_LIKE, OPERATOR_IS_NULL or OPERATOR_IS_NOT_NULL",
            ));
        }
        Asked::Equal => Operator::Equal,
        Asked::NotEqual => Operator::NotEqual,
        Asked::Less => Operator::Less,
        Asked::LessOrEqual => Operator::LessOrEqual,
        Asked::Greater => Operator::Greater,
        Asked::GreaterOrEqual => Operator::GreaterOrEqual,
        Asked::In => Operator::In,
        Asked::Like => Operator::Like,
        Asked::IsNull => Operator::IsNull,
        Asked::IsNotNull => Operator::IsNotNull,
    };
    let (right, rule) = match operator {
        Operator::In => (
            !comparison.values.is_empty(),
            "OPERATOR_IN takes one value or more",
        ),
        Operator::IsNull | Operator::IsNotNull => {
            (comparison.values.is_empty(), "a test for null takes no value")
        }
        _ => (
            comparison.values.len() == 1,
            "this operator takes exactly one value",
        ),
    };
    if !right {
        return Err(InvalidField::new("filters.comparison.values", rule));
    }
    without_nul("filters.comparison.values", &comparison.values)?;
    Ok(Filter::Compare {
        column: comparison.column,
        operator,
        values: comparison.values,
    })
}

pub(crate) fn search_parameter(
    search: proto::SearchParameter,
    terms: &mut usize,
) -> Result<SearchParameter, InvalidField> {
    count("search", terms, 1 + search.values.len())?;
    if search.name.is_empty() {
        return Err(InvalidField::new("search.name", "must name a search parameter"));
    }
    without_nul("search.values", &search.values)?;
    // `code:text` in the name is what a search URL has: take it apart rather than refuse it.
    let (name, modifier) = match search.name.split_once(':') {
        Some((name, modifier)) if search.modifier.is_empty() => (name.to_owned(), modifier.to_owned()),
        _ => (search.name, search.modifier),
    };
    Ok(SearchParameter {
        name,
        modifier,
        values: search.values,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(operator: proto::Operator, values: &[&str]) -> proto::Filter {
        proto::Filter {
            filter: Some(proto::filter::Filter::Comparison(proto::Comparison {
                column: "gender".into(),
                operator: operator.into(),
                values: values.iter().map(|v| (*v).to_owned()).collect(),
            })),
        }
    }

    fn asked(filters: Vec<proto::Filter>) -> Result<Query, InvalidField> {
        Query::try_from(proto::QueryRequest {
            view: "v".into(),
            filters,
            ..Default::default()
        })
    }

    #[test]
    fn operators_have_their_number_of_values() {
        assert!(asked(vec![compare(proto::Operator::Equal, &["a"])]).is_ok());
        assert!(asked(vec![compare(proto::Operator::Equal, &[])]).is_err());
        assert!(asked(vec![compare(proto::Operator::Equal, &["a", "b"])]).is_err());
        assert!(asked(vec![compare(proto::Operator::In, &["a", "b"])]).is_ok());
        assert!(asked(vec![compare(proto::Operator::In, &[])]).is_err());
        assert!(asked(vec![compare(proto::Operator::IsNull, &[])]).is_ok());
        assert!(asked(vec![compare(proto::Operator::IsNull, &["a"])]).is_err());
        assert!(asked(vec![compare(proto::Operator::Unspecified, &["a"])]).is_err());
        assert!(asked(vec![proto::Filter { filter: None }]).is_err());
    }

    #[test]
    fn trees_are_bounded() {
        let mut deep = compare(proto::Operator::IsNull, &[]);
        for _ in 0..MAX_DEPTH {
            deep = proto::Filter {
                filter: Some(proto::filter::Filter::Negation(Box::new(deep))),
            };
        }
        assert!(asked(vec![deep]).expect_err("too deep").rule.contains("deep"));
        assert!(asked(vec![compare(proto::Operator::In, &["x"; MAX_TERMS])]).is_err());
    }

    #[test]
    fn a_modifier_may_stand_in_the_name() {
        let search = proto::SearchParameter {
            name: "code:text".into(),
            modifier: String::new(),
            values: vec!["a".into()],
        };
        let query = proto::QueryRequest {
            view: "v".into(),
            search: vec![search],
            ..Default::default()
        };
        let query = Query::try_from(query).expect("valid");
        assert_eq!(
            (query.search[0].name.as_str(), query.search[0].modifier.as_str()),
            ("code", "text")
        );
    }

    #[test]
    fn negative_limits_and_empty_names_are_refused() {
        let refused = |request: proto::QueryRequest| Query::try_from(request).expect_err("refused").field;
        let v = || proto::QueryRequest {
            view: "v".into(),
            ..Default::default()
        };
        assert_eq!(refused(proto::QueryRequest { limit: -1, ..v() }), "limit");
        assert_eq!(
            refused(proto::QueryRequest {
                max_resources: -1,
                ..v()
            }),
            "max_resources"
        );
        assert_eq!(refused(proto::QueryRequest::default()), "view");
        let demand = proto::FreshnessDemand {
            layers: 9,
            ..Default::default()
        };
        assert_eq!(
            refused(proto::QueryRequest {
                freshness: Some(demand),
                ..v()
            }),
            "freshness.layers"
        );
    }
}
