//! The views as FHIR resources, and what the gateway says of itself.

use serde_json::{Value, json};

use super::{fixture, get, get_with};

fn names(bundle: &Value) -> Vec<&str> {
    let entries = bundle["entry"].as_array().map(Vec::as_slice).unwrap_or_default();
    entries
        .iter()
        .filter_map(|entry| entry["resource"]["name"].as_str())
        .collect()
}

#[tokio::test]
async fn a_view_is_read_by_its_id_which_is_made_of_its_name_where_it_has_none() -> anyhow::Result<()> {
    let fixture = fixture().await?;
    for (id, name) in [
        ("typed-view", "typed"),
        ("typed", "typed"),
        ("code-lists", "code_lists"),
        ("code_lists", "code_lists"),
    ] {
        let said = get(&fixture, &format!("/ViewDefinition/{id}")).await?;
        let view = said.json();
        assert_eq!(
            (&view["resourceType"], &view["name"]),
            (&json!("ViewDefinition"), &json!(name))
        );
        assert!(said.header("etag").starts_with("W/\""), "{:?}", said.headers);
        assert!(said.header("content-type").starts_with("application/fhir+json"));
    }
    assert_eq!(
        get(&fixture, "/ViewDefinition/code_lists").await?.json()["id"],
        "code-lists"
    );
    assert_eq!(get(&fixture, "/ViewDefinition/none").await?.refused().0, 404);
    Ok(())
}

#[tokio::test]
async fn views_are_searched_and_paged() -> anyhow::Result<()> {
    let fixture = fixture().await?;
    for (query, expected) in [
        ("", vec!["code_lists", "conditions", "typed", "waiting"]),
        ("?name=CO", vec!["code_lists", "conditions"]),
        ("?name:exact=typed", vec!["typed"]),
        ("?name:contains=ist", vec!["code_lists"]),
        ("?name=type,wait", vec!["typed", "waiting"]),
        ("?url=http://example.org/ViewDefinition/typed", vec!["typed"]),
        ("?status=draft", vec!["typed"]),
        ("?status=active&resource=Condition&name=wait", vec!["waiting"]),
        ("?_id=typed-view,code-lists", vec!["code_lists", "typed"]),
        ("?resource=Patient", vec![]),
    ] {
        let bundle = get(&fixture, &format!("/ViewDefinition{query}")).await?.json();
        assert_eq!(
            (names(&bundle), &bundle["total"]),
            (expected.clone(), &json!(expected.len())),
            "{query}"
        );
    }
    let first = get(&fixture, "/ViewDefinition?_count=3").await?.json();
    assert_eq!((names(&first).len(), &first["total"]), (3, &json!(4)));
    let next = first["link"][1]["url"]
        .as_str()
        .and_then(|url| url.strip_prefix(&fixture.gateway.http));
    let last = get(&fixture, next.unwrap_or_default()).await?.json();
    assert_eq!(
        (names(&last), last["link"].as_array().map(Vec::len)),
        (vec!["waiting"], Some(1))
    );
    let full = last["entry"][0]["fullUrl"].as_str().unwrap_or_default();
    assert_eq!(full, format!("{}/ViewDefinition/waiting", fixture.gateway.http));
    for (query, parameter) in [
        ("?date=2026", "date"),
        ("?_count=x", "_count"),
        ("?_format=xml", "_format"),
    ] {
        let (status, _, named) = get(&fixture, &format!("/ViewDefinition{query}")).await?.refused();
        assert_eq!((status, named.as_str()), (400, parameter), "{query}");
    }
    let xml = get_with(&fixture, "/ViewDefinition", &[("Accept", "application/fhir+xml")]).await?;
    assert_eq!(xml.refused().0, 406);
    Ok(())
}

/// A parameter that is served and not told, or told and not served, is a fault.
#[tokio::test]
async fn the_capability_statement_leads_to_definitions_of_what_is_served() -> anyhow::Result<()> {
    let fixture = fixture().await?;
    let statement = get(&fixture, "/metadata").await?.json();
    assert_eq!(statement["resourceType"], "CapabilityStatement");
    let operations = statement["rest"][0]["operation"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    assert_eq!(operations.len(), 2);
    for operation in operations {
        let url = operation["definition"].as_str().unwrap_or_default();
        let path = url.strip_prefix(&fixture.gateway.http).unwrap_or_default();
        let definition = get(&fixture, path).await?.json();
        assert_eq!(
            (&definition["url"], &definition["code"]),
            (&operation["definition"], &operation["name"])
        );
        assert!(
            definition["base"]
                .as_str()
                .is_some_and(|base| base.starts_with("http://hl7.org/fhir/uv/sql-on-fhir/"))
        );
        let parameters = definition["parameter"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let told: Vec<&str> = parameters
            .iter()
            .filter(|p| p["use"] == "in")
            .filter_map(|p| p["name"].as_str())
            .collect();
        let code = operation["name"].as_str().unwrap_or_default();
        for name in [
            "subjectCanonical",
            "subjectReference",
            "subjectResource",
            "viewCanonical",
            "viewReference",
            "viewResource",
            "parameters",
            "context",
            "resource",
            "_format",
            "header",
            "patient",
            "group",
            "_since",
            "_limit",
            "source",
            "clientTrackingId",
        ] {
            let said = get(&fixture, &format!("/${code}?{name}=x")).await?;
            let issues = said.json()["issue"].as_array().cloned().unwrap_or_default();
            let not_served = issues.iter().any(|issue| {
                issue["code"] == "not-supported" && issue["expression"][0] == name && name != "_format"
            });
            // It is known to `$sql-run`, which refuses what it brings: what a query reads must be registered.
            let refused = code == "sql-run" && name == "context";
            assert_eq!(
                told.contains(&name) || refused,
                !not_served,
                "{code} {name}: {}",
                said.text
            );
        }
    }
    Ok(())
}
