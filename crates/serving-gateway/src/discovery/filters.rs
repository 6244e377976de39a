//! How each column can be filtered by.

use api::proto::serving::{ColumnFilter, Operator};
use fhir_core::column::{Column, ColumnKind};

use crate::search::values_of;

/// The operators that mean something for a column, and the values that they take.
pub(super) fn of_column(column: &Column) -> ColumnFilter {
    let ordered = !matches!(column.kind, ColumnKind::Boolean | ColumnKind::Json);
    let mut operators = vec![Operator::Equal, Operator::NotEqual, Operator::In];
    if ordered {
        operators.extend([
            Operator::Less,
            Operator::LessOrEqual,
            Operator::Greater,
            Operator::GreaterOrEqual,
        ]);
    }
    if column.kind == ColumnKind::Text {
        operators.push(Operator::Like);
    }
    operators.extend([Operator::IsNull, Operator::IsNotNull]);
    let (values, example) = values_of(column.kind, Some(column));
    let members = if column.collection {
        "; any member of the list may match"
    } else {
        ""
    };
    ColumnFilter {
        column: column.name.clone(),
        operators: operators.into_iter().map(Into::into).collect(),
        values: format!("{values}{members}"),
        example: example.to_owned(),
    }
}
