//! What a Query asks of rows, as conditions over the view's columns.

use api::{
    ServiceError,
    query::{Filter, Operator, Query},
};
use view_store::{Condition, Operator as StoreOperator, OrderBy};

use crate::{catalog::View, raw::Pushdown};

/// All conditions of a query, each name checked.
pub(crate) fn condition(query: &Query, view: &View) -> Result<Option<Condition>, ServiceError> {
    let mut all = Vec::new();
    for asked in &query.filters {
        all.push(filter(asked, view)?);
    }
    for search in &query.search {
        let bound = view.bindings.bind(&search.name, &search.modifier, &search.values);
        all.push(bound.map_err(|error| ServiceError::invalid("search", error))?);
    }
    all.extend(query.since.map(Condition::UpdatedSince));
    Ok(if all.is_empty() {
        None
    } else {
        Some(Condition::All(all))
    })
}

fn filter(asked: &Filter, view: &View) -> Result<Condition, ServiceError> {
    let list = |filters: &[Filter]| {
        filters
            .iter()
            .map(|f| filter(f, view))
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(match asked {
        Filter::All(all) => Condition::All(list(all)?),
        Filter::Any(any) => Condition::Any(list(any)?),
        Filter::Not(inner) => Condition::Not(Box::new(filter(inner, view)?)),
        Filter::Compare {
            column,
            operator,
            values,
        } => Condition::Compare {
            column: view.column("filters.comparison.column", column)?.name.clone(),
            operator: match operator {
                Operator::Equal => StoreOperator::Equal,
                Operator::NotEqual => StoreOperator::NotEqual,
                Operator::Less => StoreOperator::Less,
                Operator::LessOrEqual => StoreOperator::LessOrEqual,
                Operator::Greater => StoreOperator::Greater,
                Operator::GreaterOrEqual => StoreOperator::GreaterOrEqual,
                Operator::In => StoreOperator::In,
                Operator::Like => StoreOperator::Like,
                Operator::IsNull => StoreOperator::IsNull,
                Operator::IsNotNull => StoreOperator::IsNotNull,
            },
            values: values.clone(),
        },
    })
}

/// The order, each name checked.
pub(super) fn order(query: &Query, view: &View) -> Result<Vec<OrderBy>, ServiceError> {
    query
        .order
        .iter()
        .map(|by| {
            let column = view.column("order.column", &by.column)?.name.clone();
            Ok(OrderBy {
                column,
                descending: by.descending,
            })
        })
        .collect()
}

/// What of a query `BatchService` may leave out already. It knows resources, not rows: not `max_resources`, which counts
/// those that have rows, and whose rows the conditions find.
pub(super) fn pushdown(query: &Query) -> Pushdown {
    let mut pushdown = Pushdown {
        since: query.since,
        ..Pushdown::default()
    };
    if let Some(ids) = query.search.iter().find(|search| search.name == "_id") {
        pushdown.ids.clone_from(&ids.values);
    }
    pushdown
}
