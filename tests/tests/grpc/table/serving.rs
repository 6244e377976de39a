//! ServingService.

use api::proto::serving::{self as proto, criterion_tree::Tree, filter::Filter as Kind};
use e2e::house::view_of;

use super::Row;
use crate::made::CANARY;

/// How deep is too deep for the services, and still shallow enough for the decoder, which gives up at 100.
const DEEP: usize = 40;

pub(super) fn rows() -> Vec<(&'static str, Row)> {
    vec![
        ("Query", query()),
        ("Sql", sql()),
        ("Cohort", cohort()),
        ("ListViews", Row::of_nothing(&proto::ListViewsRequest {})),
        (
            "DescribeView",
            Row {
                names: &["view"],
                ..Row::of(&proto::DescribeViewRequest {
                    view: view_of("Patient"),
                })
            },
        ),
        ("GetStatistics", Row::of_nothing(&proto::GetStatisticsRequest {})),
        (
            "ResetStatistics",
            Row::of_nothing(&proto::ResetStatisticsRequest {}),
        ),
        (
            "ClearViewCache",
            Row::of_nothing(&proto::ClearViewCacheRequest {}),
        ),
    ]
}

fn compare(column: &str, values: &[&str]) -> proto::Filter {
    let comparison = proto::Comparison {
        column: column.into(),
        operator: proto::Operator::In.into(),
        values: values.iter().map(|&value| value.to_owned()).collect(),
    };
    proto::Filter {
        filter: Some(Kind::Comparison(comparison)),
    }
}

fn search() -> proto::SearchParameter {
    proto::SearchParameter {
        name: "gender".into(),
        modifier: String::new(),
        values: vec!["female".into()],
    }
}

fn deep_filter() -> proto::Filter {
    (0..DEEP).fold(compare("id", &[CANARY]), |inner, _| proto::Filter {
        filter: Some(Kind::Negation(Box::new(inner))),
    })
}

fn query() -> Row {
    let good = proto::QueryRequest {
        view: view_of("Patient"),
        filters: vec![compare("active", &["true"])],
        search: vec![search()],
        order: vec![proto::Order {
            column: "id".into(),
            descending: true,
        }],
        ..Default::default()
    };
    let of = |change: &dyn Fn(&mut proto::QueryRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let row = Row::of(&good)
        .bad(
            "a deep filter",
            &of(&|r| r.filters = vec![deep_filter()]),
            "filters",
        )
        .bad(
            "thousands of values",
            &of(&|r| r.filters = vec![compare("id", &[CANARY; 10_001])]),
            "filters",
        )
        .bad(
            "a list without conditions",
            &of(&|r| {
                r.filters = vec![proto::Filter {
                    filter: Some(Kind::All(proto::FilterList::default())),
                }];
            }),
            "filters",
        )
        .bad(
            "a token that is none",
            &of(&|r| (r.page_size, r.page_token) = (1, CANARY.into())),
            "page_token",
        )
        .bad(
            "pages of a count",
            &of(&|r| (r.page_size, r.count_only) = (1, true)),
            "count_only",
        )
        .bad(
            "thousands of versions",
            &of(&|r| {
                let version = proto::ResourceVersion {
                    resource_type: "Patient".into(),
                    id: CANARY.into(),
                    version: 1,
                };
                r.freshness = Some(proto::FreshnessDemand {
                    at_least: vec![version; 1_001],
                    ..Default::default()
                });
            }),
            "freshness.at_least",
        );
    Row {
        names: &["view", "columns", "column", "name", "modifier"],
        ..row
    }
}

fn sql() -> Row {
    let of = |statement: &str, parameters: Vec<proto::Value>| proto::SqlRequest {
        statement: statement.into(),
        parameters,
        ..Default::default()
    };
    let text = |text: &str| proto::Value {
        kind: Some(proto::value::Kind::Text(text.into())),
    };
    let row = Row::of(&of(
        &format!("SELECT count(*) FROM {} WHERE id = $1", view_of("Patient")),
        vec![text("a")],
    ))
    .bad(
        "nested",
        &of(
            &format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000)),
            Vec::new(),
        ),
        "statement",
    )
    .bad(
        "two statements",
        &of("SELECT 1; SELECT 2", Vec::new()),
        "statement",
    )
    .bad(
        "a value of another type",
        &of("SELECT $1::int", vec![text(CANARY)]),
        "statement",
    )
    .bad(
        "too many values",
        &of("SELECT 1", vec![text(CANARY); 1_001]),
        "parameters",
    );
    Row {
        // What is no name of a view is one of something else, and told by its place alone; names of parameters are told.
        names: &["key"],
        instead: &["statement"],
        ..row
    }
}

fn cohort() -> Row {
    let criterion = || proto::CriterionTree {
        tree: Some(Tree::Criterion(proto::Criterion {
            view: view_of("Patient"),
            filters: vec![compare("active", &["true"])],
            search: vec![search()],
            since: None,
        })),
    };
    let of = |criteria| proto::CohortRequest {
        criteria: Some(criteria),
        ..Default::default()
    };
    let deep = (0..DEEP).fold(criterion(), |inner, _| proto::CriterionTree {
        tree: Some(Tree::Negation(Box::new(inner))),
    });
    let wide = proto::CriterionTree {
        tree: Some(Tree::Any(proto::CriterionList {
            criteria: vec![criterion(); 51],
        })),
    };
    let nothing = proto::CriterionTree {
        tree: Some(Tree::All(proto::CriterionList::default())),
    };
    let row = Row::of(&of(criterion()))
        .bad("a deep tree", &of(deep), "criteria")
        .bad("a wide tree", &of(wide), "criteria")
        .bad("a list without criteria", &of(nothing), "criteria")
        .bad(
            "resources with a count",
            &proto::CohortRequest {
                count_only: true,
                resource_types: vec!["Condition".into()],
                ..of(criterion())
            },
            "resource_types",
        );
    Row {
        names: &["view", "column", "name", "modifier"],
        ..row
    }
}
