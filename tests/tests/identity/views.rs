//! Whoever may read one type reads views over it, in every way of asking, and learns nothing of the others.

use api::proto::{
    batch::{self, RunViewRequest, batch_service_client::BatchServiceClient, run_view_request::View as Run},
    serving::{
        self as proto, CohortRequest, CriterionTree, DescribeViewRequest, GetStatisticsRequest,
        ListViewsRequest, SqlRequest, criterion_tree::Tree, serving_service_client::ServingServiceClient,
    },
    speed::{ScanRecentResourcesRequest, speed_service_client::SpeedServiceClient},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use e2e::{ask::all_of, fhir::http_client, house::view_of};
use serde_json::{Value, json};
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::whole::{EVERYTHING, Whole, views, with_token};

const PATIENTS: &str = "patient_versions";
const CONDITIONS: &str = "condition_versions";
const OF_PATIENTS: &str = "system/Patient.rs";
const OF_CONDITIONS: &str = "system/Condition.rs";

/// The end of a stream.
async fn ended<T>(answer: Result<tonic::Response<Streaming<T>>, Status>) -> Result<usize, Status> {
    let mut stream = answer?.into_inner();
    let mut parts = 0;
    while stream.message().await?.is_some() {
        parts += 1;
    }
    Ok(parts)
}

/// May go on, or is refused with what it takes: never with less, and never with a name that it was not given.
fn expect(what: &str, said: Result<usize, Status>, needed: Option<&str>, faults: &mut Vec<String>) {
    match (said, needed) {
        (Ok(_), None) => {}
        (Err(status), Some(needed))
            if status.code() == Code::PermissionDenied && status.message().contains(needed) => {}
        (said, needed) => faults.push(format!("{what}: {said:?}, not {needed:?}")),
    }
}

struct Asking {
    client: ServingServiceClient<Channel>,
    token: String,
}

impl Asking {
    async fn query(&self, view: &str) -> Result<usize, Status> {
        ended(
            self.client
                .clone()
                .query(with_token(all_of(view), &self.token))
                .await,
        )
        .await
    }

    async fn sql(&self, statement: &str) -> Result<usize, Status> {
        let request = SqlRequest {
            statement: statement.to_owned(),
            ..Default::default()
        };
        ended(self.client.clone().sql(with_token(request, &self.token)).await).await
    }

    async fn cohort(&self, criteria: CriterionTree, resources: &[&str]) -> Result<usize, Status> {
        let request = CohortRequest {
            criteria: Some(criteria),
            resource_types: resources.iter().map(|&of| of.to_owned()).collect(),
            ..Default::default()
        };
        ended(self.client.clone().cohort(with_token(request, &self.token)).await).await
    }
}

fn of(view: &str) -> CriterionTree {
    let criterion = proto::Criterion {
        view: view.to_owned(),
        ..Default::default()
    };
    CriterionTree {
        tree: Some(Tree::Criterion(criterion)),
    }
}

fn all(criteria: Vec<CriterionTree>) -> CriterionTree {
    CriterionTree {
        tree: Some(Tree::All(proto::CriterionList { criteria })),
    }
}

fn not(criterion: CriterionTree) -> CriterionTree {
    CriterionTree {
        tree: Some(Tree::Negation(Box::new(criterion))),
    }
}

async fn asking(whole: &Whole, scopes: &str) -> anyhow::Result<Asking> {
    Ok(Asking {
        client: ServingServiceClient::new(whole.channel("ServingService").await?),
        token: whole.token(scopes),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_over_grpc_are_answered_of_types_that_may_be_read_and_of_no_other() -> anyhow::Result<()> {
    let whole = Whole::start().await?;
    let mut faults = Vec::new();
    let (patients, everything) = (
        asking(&whole, OF_PATIENTS).await?,
        asking(&whole, EVERYTHING).await?,
    );
    expect("a query", patients.query(PATIENTS).await, None, &mut faults);
    expect(
        "of another view",
        patients.query(CONDITIONS).await,
        Some(OF_CONDITIONS),
        &mut faults,
    );
    expect("of it", everything.query(CONDITIONS).await, None, &mut faults);
    let unknown = patients.query("nothing").await.expect_err("there is none");
    assert_eq!(unknown.code(), Code::InvalidArgument);
    assert!(
        unknown.message().contains(PATIENTS) && !unknown.message().contains(CONDITIONS),
        "{unknown:?}"
    );
    sql(&patients, &everything, &mut faults).await;

    for (what, criteria, resources, needed) in [
        ("a cohort", of(PATIENTS), &[][..], None),
        ("with resources", of(PATIENTS), &["Patient"], None),
        (
            "with resources of another type",
            of(PATIENTS),
            &["Patient", "Condition"],
            Some(OF_CONDITIONS),
        ),
        ("of another view", of(CONDITIONS), &[], Some(OF_CONDITIONS)),
        (
            "of two",
            all(vec![of(PATIENTS), of(CONDITIONS)]),
            &[],
            Some(OF_CONDITIONS),
        ),
        (
            "without another",
            all(vec![of(PATIENTS), not(of(CONDITIONS))]),
            &[],
            Some(OF_CONDITIONS),
        ),
    ] {
        expect(
            what,
            patients.cohort(criteria.clone(), resources).await,
            needed,
            &mut faults,
        );
        expect(
            what,
            everything.cohort(criteria, resources).await,
            None,
            &mut faults,
        );
    }
    // All patients but some: of all, a view over Patient tells.
    let conditions = asking(&whole, OF_CONDITIONS).await?;
    expect(
        "a negation of all",
        conditions.cohort(not(of(CONDITIONS)), &[]).await,
        Some(OF_PATIENTS),
        &mut faults,
    );
    other_layers(&whole, &mut faults).await?;
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    discovery(&whole, &patients).await
}

async fn sql(patients: &Asking, everything: &Asking, faults: &mut Vec<String>) {
    for (statement, needed) in [
        (format!("SELECT count(*) FROM {PATIENTS}"), None),
        ("SELECT 1".to_owned(), None),
        (
            format!("SELECT count(*) FROM {PATIENTS}, {CONDITIONS}"),
            Some(OF_CONDITIONS),
        ),
        (format!("SELECT count(*) FROM {CONDITIONS}"), Some(OF_CONDITIONS)),
        (
            format!("SELECT id FROM {PATIENTS} WHERE id IN (SELECT patient_id FROM {CONDITIONS})"),
            Some(OF_CONDITIONS),
        ),
        (
            format!("WITH c AS (SELECT * FROM sqlonfhir.{CONDITIONS}) SELECT count(*) FROM {PATIENTS}, c"),
            Some(OF_CONDITIONS),
        ),
        (
            format!("SELECT id FROM {PATIENTS} UNION ALL SELECT id FROM {CONDITIONS}"),
            Some(OF_CONDITIONS),
        ),
        (
            format!("SELECT (SELECT count(*) FROM {CONDITIONS}) FROM {PATIENTS}"),
            Some(OF_CONDITIONS),
        ),
        (
            "SELECT * FROM sqlonfhir.freshness".to_owned(),
            Some("system/*.rs"),
        ),
    ] {
        expect(&statement, patients.sql(&statement).await, needed, faults);
        expect(&statement, everything.sql(&statement).await, None, faults);
    }
    let unknown = patients
        .sql("SELECT * FROM nothing")
        .await
        .expect_err("there is none");
    if unknown.code() != Code::InvalidArgument || unknown.message().contains(CONDITIONS) {
        faults.push(format!("an unknown table: {unknown:?}"));
    }
}

async fn discovery(whole: &Whole, patients: &Asking) -> anyhow::Result<()> {
    let mut client = patients.client.clone();
    let listed = client
        .list_views(with_token(ListViewsRequest {}, &patients.token))
        .await?
        .into_inner();
    let names: Vec<&str> = listed.views.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(names, [PATIENTS]);
    let describe = |view: &str| {
        with_token(
            DescribeViewRequest {
                view: view.to_owned(),
            },
            &patients.token,
        )
    };
    let described = client.describe_view(describe(PATIENTS)).await?.into_inner();
    assert!(!format!("{described:?}").contains(CONDITIONS));
    let refused = client
        .describe_view(describe(CONDITIONS))
        .await
        .expect_err("not for it");
    assert_eq!(refused.code(), Code::PermissionDenied);
    // Both have been asked by somebody.
    for (scopes, counted) in [
        (OF_PATIENTS, vec![PATIENTS]),
        (EVERYTHING, vec![CONDITIONS, PATIENTS]),
        ("", vec![]),
    ] {
        let request = with_token(GetStatisticsRequest {}, &whole.token(scopes));
        let told = client.get_statistics(request).await?.into_inner().views;
        let names: Vec<&str> = told.iter().map(|view| view.view.as_str()).collect();
        assert_eq!(names, counted, "{scopes}");
    }
    Ok(())
}

/// The other two services know types too.
async fn other_layers(whole: &Whole, faults: &mut Vec<String>) -> anyhow::Result<()> {
    let token = whole.token(OF_PATIENTS);
    let mut client = BatchServiceClient::new(whole.channel("BatchService").await?);
    let listed = client
        .list_views(with_token(batch::ListViewsRequest {}, &token))
        .await?
        .into_inner()
        .views;
    assert_eq!(
        listed.iter().map(|view| view.name.as_str()).collect::<Vec<_>>(),
        [PATIENTS]
    );
    let mut watched = client
        .watch_views(with_token(batch::WatchViewsRequest {}, &token))
        .await?
        .into_inner();
    let first = watched.message().await?.expect("at once").views;
    assert_eq!(
        first.iter().map(|view| view.name.as_str()).collect::<Vec<_>>(),
        [PATIENTS]
    );
    let [patients, conditions] = views().map(|view| view.to_string());
    for (what, view, needed) in [
        ("a view by its name", Run::Name(PATIENTS.into()), None),
        (
            "another by its name",
            Run::Name(CONDITIONS.into()),
            Some(OF_CONDITIONS),
        ),
        ("a view by its definition", Run::DefinitionJson(patients), None),
        (
            "another by its definition",
            Run::DefinitionJson(conditions),
            Some(OF_CONDITIONS),
        ),
    ] {
        let request = RunViewRequest {
            view: Some(view),
            ..Default::default()
        };
        let said = ended(client.run_view(with_token(request, &token)).await).await;
        expect(what, said, needed, faults);
    }
    let client = SpeedServiceClient::new(whole.channel("SpeedService").await?);
    for (of, needed) in [
        ("Patient", None),
        ("Condition", Some(OF_CONDITIONS)),
        ("Goal", Some("system/Goal.rs")),
    ] {
        let request = ScanRecentResourcesRequest {
            resource_type: of.into(),
            ..Default::default()
        };
        let said = ended(
            client
                .clone()
                .scan_recent_resources(with_token(request, &token))
                .await,
        )
        .await;
        expect(of, said, needed, faults);
    }
    Ok(())
}

/// A query in SQL as `$sql-run` takes it.
fn library(statement: &str, tables: &[(&str, &str)]) -> Value {
    let tables: Vec<Value> = tables
        .iter()
        .map(|(label, of)| json!({"type": "depends-on", "resource": format!("http://views.test/{of}"), "label": label}))
        .collect();
    json!({
        "resourceType": "Library", "status": "active",
        "meta": {"profile": ["http://hl7.org/fhir/uv/sql-on-fhir/StructureDefinition/SQLQuery"]},
        "type": {"coding": [{"system": "http://hl7.org/fhir/uv/sql-on-fhir/CodeSystem/LibraryTypesCodes", "code": "sql-query"}]},
        "relatedArtifact": tables,
        "content": [{"contentType": "application/sql", "data": STANDARD.encode(statement)}],
    })
}

fn subject(resource: &Value, further: &[Value]) -> String {
    let mut parameter = vec![json!({"name": "subjectResource", "resource": resource})];
    parameter.extend_from_slice(further);
    json!({"resourceType": "Parameters", "parameter": parameter}).to_string()
}

/// Requests over HTTP are answered of types that may be read, and of no other.
pub(crate) async fn over_http(whole: &Whole) -> anyhow::Result<()> {
    let (base, client) = (whole.http()?, http_client()?);
    let mut faults = Vec::new();
    let id = |of: &str| view_of(of).replace('_', "-");
    let run =
        |of: &str, further: &str| format!("/$sql-run?subjectReference=ViewDefinition/{}{further}", id(of));
    let gets = [
        (run("Patient", ""), [200, 403, 200]),
        (run("Condition", ""), [403, 200, 200]),
        (
            "/$sql-run?subjectCanonical=http://views.test/Patient".into(),
            [200, 403, 200],
        ),
        (
            "/$sql-run?subjectCanonical=http://views.test/Condition".into(),
            [403, 200, 200],
        ),
        (
            "/$sql-run?subjectCanonical=http://views.test/Goal".into(),
            [404, 404, 404],
        ),
        (
            format!("/ViewDefinition/{}/$viewdefinition-run", id("Condition")),
            [403, 200, 200],
        ),
        (format!("/ViewDefinition/{}", id("Patient")), [200, 403, 200]),
        (format!("/ViewDefinition/{}", id("Condition")), [403, 200, 200]),
        ("/ViewDefinition/nothing".into(), [404, 404, 404]),
        // Whether a patient exists is not told to those who may not read any.
        (run("Condition", "&patient=Patient/nobody"), [403, 200, 400]),
        (run("Patient", "&patient=Patient/a"), [200, 403, 200]),
        // A Group's members are in the Group.
        (run("Condition", "&group=Group/g"), [403, 403, 400]),
    ];
    let [patients, conditions] = views();
    let condition = json!({"name": "resource", "resource": {"resourceType": "Condition", "id": "c", "meta": {"versionId": "1"}}});
    let both = library(
        "SELECT count(*) AS n FROM p, c",
        &[("p", "Patient"), ("c", "Condition")],
    );
    let posts = [
        (subject(&patients, &[]), [200, 403, 200]),
        (subject(&conditions, &[]), [403, 200, 200]),
        // Over what the request holds itself, nothing of ours is read.
        (subject(&conditions, &[condition]), [200, 200, 200]),
        (
            subject(&library("SELECT count(*) AS n FROM p", &[("p", "Patient")]), &[]),
            [200, 403, 200],
        ),
        (subject(&both, &[]), [403, 403, 200]),
        // A table that is not declared is found by its view's name.
        (
            subject(
                &library(
                    "SELECT count(*) AS n FROM p, condition_versions",
                    &[("p", "Patient")],
                ),
                &[],
            ),
            [403, 403, 200],
        ),
    ];
    for (number, scopes) in [OF_PATIENTS, OF_CONDITIONS, EVERYTHING].into_iter().enumerate() {
        let token = whole.token(scopes);
        let requests = gets.iter().map(|(path, expected)| {
            (
                path.clone(),
                client.get(format!("{base}{path}")),
                expected[number],
            )
        });
        let posted = posts.iter().map(|(body, expected)| {
            let request = client.post(format!("{base}/$sql-run")).body(body.clone());
            let request = request.header("content-type", "application/fhir+json");
            (body.clone(), request, expected[number])
        });
        for (what, request, expected) in requests.chain(posted) {
            let answer = request.bearer_auth(&token).send().await?;
            let (status, text) = (answer.status().as_u16(), answer.text().await?);
            let outcome: Value = serde_json::from_str(&text).unwrap_or_default();
            let told = status != 403 || outcome["issue"][0]["code"] == "forbidden";
            if status != expected || !told {
                faults.push(format!("{scopes}: {what}: {status}, not {expected}: {text}"));
            }
        }
        let listed = client
            .get(format!("{base}/ViewDefinition"))
            .bearer_auth(&token)
            .send()
            .await?
            .text()
            .await?;
        for (of, seen) in [("Patient", number != 1), ("Condition", number != 0)] {
            if listed.contains(&view_of(of)) != seen {
                faults.push(format!("{scopes}: ViewDefinition lists {of}: {listed}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}
