//! Every path of the gateway's HTTP, by every kind of credentials.

use e2e::{fhir::http_client, house::view_of};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;

use crate::{
    matrix::{Needs, documented, unbelieved},
    views,
    whole::{Asking, EVERYTHING, OF_OPERATOR, Whole},
};

struct Told {
    status: u16,
    challenge: Option<String>,
    code: String,
}

async fn sent(request: RequestBuilder, credentials: Option<&str>) -> anyhow::Result<Told> {
    let request = match credentials {
        Some(value) => request.header("authorization", value),
        None => request,
    };
    let answer = request.send().await?;
    let challenge = answer.headers().get("www-authenticate");
    let challenge = challenge.and_then(|value| value.to_str().ok()).map(str::to_owned);
    let status = answer.status().as_u16();
    let outcome: Value = serde_json::from_str(&answer.text().await?).unwrap_or_default();
    Ok(Told {
        status,
        challenge,
        code: outcome["issue"][0]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
    })
}

#[test]
fn the_documentation_has_every_path_and_no_other() {
    let paths: Vec<String> = serving_gateway::http_paths()
        .iter()
        .map(|path| path.replacen("%24", "$", 1))
        .collect();
    let documented = documented();
    for path in &paths {
        assert!(
            documented.contains_key(path),
            "docs/identity.md: what does {path} need?"
        );
    }
    for named in documented.keys().filter(|named| named.starts_with('/')) {
        assert!(paths.contains(named), "docs/identity.md: no such path: {named}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_path_answers_every_kind_of_credentials_as_the_table_says() -> anyhow::Result<()> {
    let whole = Whole::start().await?;
    credentials(&whole.asking().await?, &whole.http()?, &http_client()?).await?;
    views::over_http(&whole).await
}

/// Fails unless each path answers each kind of credentials as the table says.
pub(crate) async fn credentials(asking: &Asking<'_>, base: &str, client: &Client) -> anyhow::Result<()> {
    let documented = documented();
    let (mut faults, mut asked) = (Vec::new(), 0);
    for path in serving_gateway::http_paths() {
        let needs = documented[&path.replacen("%24", "$", 1)];
        let id = if path.starts_with("/OperationDefinition") {
            "sql-run".to_owned()
        } else {
            view_of("Patient").replace('_', "-")
        };
        let place = format!("{base}{}", path.replace("{id}", &id));
        // Where nothing is posted, bodies are not read, whoever sends them.
        let posted = path.ends_with("-run");
        for method in [Method::GET, Method::POST]
            .into_iter()
            .take(1 + usize::from(posted))
        {
            // A body that is refused is not read by anybody.
            let request = || {
                let request = client.request(method.clone(), &place);
                if method == Method::POST {
                    request
                        .header("content-type", "application/fhir+json")
                        .body("x".repeat(100_000))
                } else {
                    request
                }
            };
            for (what, credentials, _) in unbelieved(asking) {
                asked += 1;
                let told = sent(request(), credentials.as_deref()).await?;
                let right = match needs {
                    Needs::Nothing => !matches!(told.status, 401 | 403),
                    Needs::Proof if asking.certified && credentials.is_none() => told.status < 500,
                    _ if asking.certified && credentials.is_none() => {
                        (told.status, told.code.as_str()) == (403, "forbidden")
                    }
                    _ => {
                        told.status == 401
                            && told.code == "login"
                            && told
                                .challenge
                                .as_deref()
                                .is_some_and(|said| said.starts_with("Bearer"))
                    }
                };
                if !right {
                    faults.push(format!(
                        "{method} {path}: credentials {what}: {} {}",
                        told.status, told.code
                    ));
                }
            }
            if let Some(scopes) = needs.all_but() {
                asked += 1;
                let told = sent(request(), Some(&format!("Bearer {}", asking.token(scopes)))).await?;
                if (told.status, told.code.as_str()) != (403, "forbidden") {
                    faults.push(format!(
                        "{method} {path}: scopes {scopes}: {} {}",
                        told.status, told.code
                    ));
                }
            }
            for token in [asking.token(EVERYTHING), OF_OPERATOR.to_owned()] {
                asked += 1;
                let told = sent(request(), Some(&format!("Bearer {token}"))).await?;
                // What is asked for there, other tests know; here it is let in.
                if matches!(told.status, 401 | 403 | 500..) {
                    faults.push(format!(
                        "{method} {path}: good credentials: {} {}",
                        told.status, told.code
                    ));
                }
            }
        }
    }
    assert!(asked >= 150, "only {asked} requests were made");
    assert!(
        faults.is_empty(),
        "{} faults of {asked}:\n{}",
        faults.len(),
        faults.join("\n")
    );

    // A whole answer, and what does not exist.
    let run = format!(
        "{base}/$sql-run?subjectReference=ViewDefinition/{}",
        view_of("Patient").replace('_', "-")
    );
    let answer = client
        .get(&run)
        .bearer_auth(asking.token("system/Patient.rs"))
        .send()
        .await?;
    assert_eq!(answer.status(), StatusCode::OK);
    let absent = sent(client.get(format!("{base}/Patient")), None).await?;
    assert_eq!((absent.status, absent.code.as_str()), (404, "not-found"));
    Ok(())
}
