//! What the audit is told of a request over HTTP, as it becomes known. Nothing where there is none.

use api::{
    RowBatch,
    sql::SqlValue,
    sql_run::{Named, RunRequest},
};
use audit::{Call, Noted, Question};
use futures::StreamExt as _;

use super::{rows::Answered, subject::Subject};

/// What is asked.
pub(super) fn asks(asked: &RunRequest) {
    let Some(call) = Call::current() else { return };
    call.asks(|question| {
        match &asked.subject.named {
            Named::Canonical(canonical) => {
                let version = canonical.version.as_deref().map(|version| format!("|{version}"));
                question.canonical = Some(format!("{}{}", canonical.url, version.unwrap_or_default()));
            }
            Named::Reference(reference) => question.canonical = Some(reference.clone()),
            Named::Resource(text) => question.defines(text),
        }
        question.patients.clone_from(&asked.patients);
        question.ids.clone_from(&asked.groups);
        question.since = asked.since;
        question.limit = asked.limit;
        if asked.resources.is_some() {
            // What the caller has already: it is told that it came, not what it is.
            question.filters.push(Noted {
                of: "resource".into(),
                operator: "given".into(),
                values: Vec::new(),
            });
        }
    });
}

/// What it was found to be about.
pub(super) fn is_about(subject: &Subject) {
    let Some(call) = Call::current() else { return };
    call.asks(|question| match subject {
        Subject::View(view) => question.views.push(view.registered.name.clone()),
        Subject::Library(library) => question.statement = Some(library.statement.clone()),
    });
}

/// What is bound to a statement.
pub(super) fn binds(values: &[(String, SqlValue)]) {
    let Some(call) = Call::current() else { return };
    call.asks(|question| values.iter().for_each(|(_, value)| bind(question, value)));
}

fn bind(question: &mut Question, value: &SqlValue) {
    let text = match value {
        SqlValue::Null => return,
        SqlValue::List(members) => return members.iter().for_each(|member| bind(question, member)),
        SqlValue::Boolean(value) => value.to_string(),
        SqlValue::Integer(value) => value.to_string(),
        SqlValue::Timestamp(at) => at.to_rfc3339(),
        SqlValue::Decimal(text) | SqlValue::Text(text) | SqlValue::Json(text) => text.clone(),
    };
    question.parameters.push(text);
}

/// What is given out; `of_view`: the columns are a registered view's, not the request's own words.
pub(super) fn gives(mut answered: Answered, of_view: bool) -> Answered {
    let Some(call) = Call::current() else {
        return answered;
    };
    if let Some(freshness) = &answered.freshness {
        call.answers_from(freshness);
    } else {
        call.answers();
        call.gives(|given| given.layers = Some("given".into()));
    }
    if of_view {
        let columns = answered.columns.iter().map(|column| column.name.clone());
        call.asks(|question| question.columns = columns.collect());
    }
    answered.rows = Box::pin(answered.rows.inspect(move |batch| {
        let rows = batch.as_ref().map_or(0, RowBatch::len);
        call.gives(|given| given.rows += rows as u64);
    }));
    answered
}
