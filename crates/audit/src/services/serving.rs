//! ServingService.

use api::proto::serving::{
    self as proto, CriterionTree, Filter, FreshnessDemand, QueryFooter, QueryHeader, SearchParameter,
    cohort_response, criterion_tree::Tree, filter::Filter as Kind, query_response,
    serving_service_server::ServingService, sql_response, value,
};
use tonic::{Request, Response, Status};

use super::{Audited, Parts, count, limit, nothing, one, since, stream, unseen};
use crate::{Call, Noted, Question};

#[tonic::async_trait]
impl<S: ServingService> ServingService for Audited<S> {
    type QueryStream = Parts<proto::QueryResponse>;
    type SqlStream = Parts<proto::SqlResponse>;
    type CohortStream = Parts<proto::CohortResponse>;

    async fn query(
        &self,
        request: Request<proto::QueryRequest>,
    ) -> Result<Response<Self::QueryStream>, Status> {
        let asked = Call::current().map(|_| request.get_ref().clone());
        let note = move |question: &mut Question| asked.iter().for_each(|asked| query(question, asked));
        stream(note, self.0.query(request), |call, response| {
            match &response.part {
                Some(query_response::Part::Header(part)) => header(call, part, true),
                Some(query_response::Part::Rows(part)) => call.gives(|given| given.rows += count(part.len())),
                Some(query_response::Part::Footer(part)) => footer(call, part),
                None => {}
            }
        })
        .await
    }

    async fn sql(&self, request: Request<proto::SqlRequest>) -> Result<Response<Self::SqlStream>, Status> {
        let asked = Call::current().map(|_| request.get_ref().clone());
        let note = move |question: &mut Question| asked.iter().for_each(|asked| sql(question, asked));
        stream(note, self.0.sql(request), |call, response| match &response.part {
            // What a statement calls its columns is the caller's word.
            Some(sql_response::Part::Header(part)) => header(call, part, false),
            Some(sql_response::Part::Rows(part)) => call.gives(|given| given.rows += count(part.len())),
            Some(sql_response::Part::Footer(_) | sql_response::Part::Plan(_)) | None => {}
        })
        .await
    }

    async fn cohort(
        &self,
        request: Request<proto::CohortRequest>,
    ) -> Result<Response<Self::CohortStream>, Status> {
        let asked = Call::current().map(|_| request.get_ref().clone());
        let note = move |question: &mut Question| asked.iter().for_each(|asked| cohort(question, asked));
        stream(note, self.0.cohort(request), |call, response| {
            match &response.part {
                Some(cohort_response::Part::Header(part)) => {
                    call.answers();
                    part.freshness
                        .iter()
                        .for_each(|freshness| call.answers_from(freshness));
                }
                Some(cohort_response::Part::Patients(part)) => {
                    call.gives(|given| given.rows += count(part.patient_ids.len()));
                }
                Some(cohort_response::Part::Resource(_)) => call.gives(|given| given.resources += 1),
                Some(cohort_response::Part::Footer(_)) | None => {}
            }
        })
        .await
    }

    async fn list_views(
        &self,
        request: Request<proto::ListViewsRequest>,
    ) -> Result<Response<proto::ListViewsResponse>, Status> {
        self.0.list_views(request).await
    }

    async fn describe_view(
        &self,
        request: Request<proto::DescribeViewRequest>,
    ) -> Result<Response<proto::DescribeViewResponse>, Status> {
        self.0.describe_view(request).await
    }

    async fn get_statistics(
        &self,
        request: Request<proto::GetStatisticsRequest>,
    ) -> Result<Response<proto::GetStatisticsResponse>, Status> {
        self.0.get_statistics(request).await
    }

    async fn reset_statistics(
        &self,
        request: Request<proto::ResetStatisticsRequest>,
    ) -> Result<Response<proto::ResetStatisticsResponse>, Status> {
        one(nothing, self.0.reset_statistics(request), unseen).await
    }

    async fn clear_view_cache(
        &self,
        request: Request<proto::ClearViewCacheRequest>,
    ) -> Result<Response<proto::ClearViewCacheResponse>, Status> {
        one(nothing, self.0.clear_view_cache(request), unseen).await
    }
}

/// `of_view`: the columns are a registered view's.
fn header(call: &Call, header: &QueryHeader, of_view: bool) {
    call.answers();
    header
        .freshness
        .iter()
        .for_each(|freshness| call.answers_from(freshness));
    if of_view {
        let columns = header.columns.iter().map(|column| column.name.clone()).collect();
        call.asks(|question| question.columns = columns);
    }
}

fn footer(call: &Call, footer: &QueryFooter) {
    call.gives(|given| {
        given.batch_rows = Some(footer.batch_rows);
        given.speed_rows = Some(footer.speed_rows);
    });
}

fn query(question: &mut Question, asked: &proto::QueryRequest) {
    question.views.push(asked.view.clone());
    question.columns.clone_from(&asked.columns);
    asked.filters.iter().for_each(|asked| filter(question, asked, 0));
    search(question, &asked.search);
    question.since = since(asked.since.as_ref());
    question.limit = limit(asked.limit).or(limit(asked.max_resources));
    question.count_only = asked.count_only;
    freshness(question, asked.freshness.as_ref());
}

fn sql(question: &mut Question, asked: &proto::SqlRequest) {
    question.statement = Some(asked.statement.clone());
    for value in asked.parameters.iter().chain(asked.named_parameters.values()) {
        parameter(question, value);
    }
    question.limit = limit(asked.limit);
    freshness(question, asked.freshness.as_ref());
}

fn cohort(question: &mut Question, asked: &proto::CohortRequest) {
    asked
        .criteria
        .iter()
        .for_each(|asked| criteria(question, asked, 0));
    question.resource_types.clone_from(&asked.resource_types);
    question.limit = limit(asked.limit);
    question.count_only = asked.count_only;
    freshness(question, asked.freshness.as_ref());
}

/// Deeper than any service takes: what lies beyond is refused anyway.
const DEEPEST: usize = 64;

fn criteria(question: &mut Question, tree: &CriterionTree, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    match &tree.tree {
        Some(Tree::Criterion(asked)) => {
            if !question.views.contains(&asked.view) {
                question.views.push(asked.view.clone());
            }
            asked.filters.iter().for_each(|asked| filter(question, asked, 0));
            search(question, &asked.search);
        }
        Some(Tree::All(list) | Tree::Any(list)) => {
            list.criteria
                .iter()
                .for_each(|tree| criteria(question, tree, depth + 1));
        }
        Some(Tree::Negation(tree)) => criteria(question, tree, depth + 1),
        None => {}
    }
}

fn filter(question: &mut Question, asked: &Filter, depth: usize) {
    if depth > DEEPEST {
        return;
    }
    match &asked.filter {
        Some(Kind::Comparison(asked)) => question.filters.push(Noted {
            of: asked.column.clone(),
            operator: operator(asked.operator()).into(),
            values: asked.values.clone(),
        }),
        Some(Kind::All(list) | Kind::Any(list)) => {
            list.filters
                .iter()
                .for_each(|asked| filter(question, asked, depth + 1));
        }
        Some(Kind::Negation(asked)) => filter(question, asked, depth + 1),
        None => {}
    }
}

fn operator(operator: proto::Operator) -> &'static str {
    match operator {
        proto::Operator::Unspecified => "unspecified",
        proto::Operator::Equal => "equal",
        proto::Operator::NotEqual => "not_equal",
        proto::Operator::Less => "less",
        proto::Operator::LessOrEqual => "less_or_equal",
        proto::Operator::Greater => "greater",
        proto::Operator::GreaterOrEqual => "greater_or_equal",
        proto::Operator::In => "in",
        proto::Operator::Like => "like",
        proto::Operator::IsNull => "is_null",
        proto::Operator::IsNotNull => "is_not_null",
    }
}

/// A search by patient is told as one of patients, too.
fn search(question: &mut Question, asked: &[SearchParameter]) {
    for asked in asked {
        if matches!(asked.name.as_str(), "patient" | "subject") {
            question.patients.extend(asked.values.iter().cloned());
        }
        question.search.push(Noted {
            of: asked.name.clone(),
            operator: if asked.modifier.is_empty() {
                "".into()
            } else {
                asked.modifier.clone().into()
            },
            values: asked.values.clone(),
        });
    }
}

/// Versions that an answer must show name resources.
fn freshness(question: &mut Question, demand: Option<&FreshnessDemand>) {
    let named = demand.into_iter().flat_map(|demand| &demand.at_least);
    question.ids.extend(named.map(|version| version.id.clone()));
}

fn parameter(question: &mut Question, value: &proto::Value) {
    match &value.kind {
        Some(value::Kind::List(list)) => list.values.iter().for_each(|value| parameter(question, value)),
        Some(value::Kind::Boolean(value)) => question.parameters.push(value.to_string()),
        Some(value::Kind::Integer(value)) => question.parameters.push(value.to_string()),
        Some(value::Kind::Timestamp(value)) => question.parameters.push(value.to_string()),
        Some(value::Kind::Decimal(text) | value::Kind::Text(text) | value::Kind::Json(text)) => {
            question.parameters.push(text.clone());
        }
        None => {}
    }
}
