//! A Bundle that is sent by POST: notifications of topic subscriptions (`history` of the R4 backport, `subscription-notification` of R5), and transactions of a
//! payload search. Pure.
//!
//! The first entry of a notification is about the subscription: a `SubscriptionStatus`, or Parameters in R4. It names the resources in focus; with the content
//! `id-only` the further entries hold no resource, with `empty` there are none.

use std::{borrow::Cow, collections::HashSet};

use api::ServiceError;
use fhir_core::resource::is_id;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::delivery::{Delivered, checked_text, delivered, invalid, object, resource_type_of};

/// What one entry of a Bundle says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleEntry {
    /// A resource in a version.
    Resource(Delivered),
    /// A resource was deleted, or changed without a body.
    Changed(Reference),
    /// Something has changed.
    Notice,
}

/// Which resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Resource type.
    pub resource_type: String,
    /// Logical id.
    pub id: String,
}

#[derive(Deserialize)]
struct Bundle<'a> {
    #[serde(borrow, default)]
    entry: Vec<Entry<'a>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow, rename = "fullUrl")]
    full_url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    resource: Option<&'a RawValue>,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    url: Option<Cow<'a, str>>,
}

/// `SubscriptionStatus` of R4B and R5.
#[derive(Deserialize)]
struct StatusOf<'a> {
    #[serde(borrow, default, rename = "notificationEvent")]
    events: Vec<Event<'a>>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    focus: Option<Focus<'a>>,
}

#[derive(Deserialize)]
struct Focus<'a> {
    #[serde(borrow)]
    reference: Option<Cow<'a, str>>,
}

/// Parameters of the R4 backport: `notification-event` with a part `focus`.
#[derive(Deserialize)]
struct Parameters<'a> {
    #[serde(borrow, default)]
    parameter: Vec<Parameter<'a>>,
}

#[derive(Deserialize)]
struct Parameter<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, rename = "valueReference")]
    reference: Option<Focus<'a>>,
    #[serde(borrow, default)]
    part: Vec<Self>,
}

/// The entries of a Bundle, each resource once.
pub fn entries(body: &[u8], max_depth: usize) -> Result<Vec<BundleEntry>, ServiceError> {
    let text = checked_text(body, max_depth)?;
    if resource_type_of(text)? != "Bundle" {
        return Err(invalid(
            "a POST must hold a Bundle; a resource is PUT to {type}/{id}",
        ));
    }
    let bundle: Bundle<'_> = object(text)?;
    let mut entries = Vec::new();
    for entry in &bundle.entry {
        understand(entry, &mut entries)?;
    }
    Ok(once_each(entries))
}

fn understand(entry: &Entry<'_>, entries: &mut Vec<BundleEntry>) -> Result<(), ServiceError> {
    let Some(resource) = entry.resource else {
        let url = entry.request.as_ref().and_then(|request| request.url.as_deref());
        let named = url
            .and_then(reference)
            .or_else(|| entry.full_url.as_deref().and_then(reference));
        entries.push(named.map_or(BundleEntry::Notice, BundleEntry::Changed));
        return Ok(());
    };
    let text = resource.get();
    // What tells about the subscription itself is no resource of HAPI's.
    let focuses: Vec<Option<Cow<'_, str>>> = match resource_type_of(text)?.as_ref() {
        "SubscriptionStatus" => {
            let status: StatusOf<'_> = object(text)?;
            let events = status.events.into_iter();
            events.map(|event| event.focus?.reference).collect()
        }
        "Parameters" => {
            let parameters: Parameters<'_> = object(text)?;
            let is = |parameter: &Parameter<'_>, name| parameter.name.as_deref() == Some(name);
            let events = parameters
                .parameter
                .into_iter()
                .filter(|p| is(p, "notification-event"));
            events
                .map(|event| {
                    event
                        .part
                        .into_iter()
                        .find(|part| is(part, "focus"))?
                        .reference?
                        .reference
                })
                .collect()
        }
        _ => {
            entries.push(BundleEntry::Resource(delivered(text, text)?));
            return Ok(());
        }
    };
    entries.extend(focuses.into_iter().map(|focus| {
        let named = focus.as_deref().and_then(reference);
        named.map_or(BundleEntry::Notice, BundleEntry::Changed)
    }));
    Ok(())
}

/// What came as a resource need not be looked for, and nothing twice.
fn once_each(entries: Vec<BundleEntry>) -> Vec<BundleEntry> {
    let whole: HashSet<Reference> = entries
        .iter()
        .filter_map(|entry| match entry {
            BundleEntry::Resource(Delivered { resource_type, state }) => Some(Reference {
                resource_type: resource_type.clone(),
                id: state.id.clone(),
            }),
            _ => None,
        })
        .collect();
    let (mut known, mut noticed) = (HashSet::new(), false);
    let mut kept = entries;
    kept.retain(|entry| match entry {
        BundleEntry::Resource(_) => true,
        BundleEntry::Changed(reference) => !whole.contains(reference) && known.insert(reference.clone()),
        BundleEntry::Notice => !std::mem::replace(&mut noticed, true),
    });
    kept
}

/// `Patient/a`, `Patient/a/_history/3`, `http://hapi/fhir/Patient/a`.
fn reference(url: &str) -> Option<Reference> {
    let path = url.split(['?', '#']).next()?;
    let path = path.split_once("/_history").map_or(path, |(before, _)| before);
    let (before, id) = path.rsplit_once('/')?;
    let resource_type = before.rsplit('/').next()?;
    let resource_type = api::batch::resource_type("reference", resource_type.to_owned()).ok()?;
    is_id(id).then(|| Reference {
        resource_type,
        id: id.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENT: &str = r#"{"resourceType":"Patient","id":"p-1","meta":{"versionId":"3","lastUpdated":"2026-01-31T10:09:44.706-05:00"}}"#;

    fn changed(resource_type: &str, id: &str) -> BundleEntry {
        BundleEntry::Changed(Reference {
            resource_type: resource_type.into(),
            id: id.into(),
        })
    }

    fn of(bundle_type: &str, entries_text: &str) -> Vec<BundleEntry> {
        let text = format!(r#"{{"resourceType":"Bundle","type":"{bundle_type}","entry":[{entries_text}]}}"#);
        entries(text.as_bytes(), 200).unwrap()
    }

    #[test]
    fn a_full_notification_of_the_backport_gives_its_resources_once() {
        let status = r#"{"resource":{"resourceType":"Parameters","parameter":[{"name":"topic"},
            {"name":"notification-event","part":[{"name":"event-number"},{"name":"focus","valueReference":{"reference":"Patient/p-1"}}]},
            {"name":"notification-event","part":[{"name":"focus","valueReference":{"reference":"Patient/p-2/_history/4"}}]}]}}"#;
        let resource = format!(
            r#"{{"fullUrl":"http://h/fhir/Patient/p-1","resource":{PATIENT},"request":{{"method":"PUT"}}}}"#
        );
        let delete =
            r#"{"fullUrl":"http://h/fhir/Patient/p-2","request":{"method":"DELETE","url":"Patient/p-2"}}"#;
        let found = of("history", &format!("{status},{resource},{delete}"));
        assert_eq!(found.len(), 2);
        assert_eq!(found[0], changed("Patient", "p-2"));
        assert!(matches!(&found[1], BundleEntry::Resource(d) if d.state.version == 3));
    }

    #[test]
    fn id_only_and_empty_notifications_of_r5_say_what_they_say() {
        let status = r#"{"resource":{"resourceType":"SubscriptionStatus","notificationEvent":[{"focus":{"reference":"http://h/fhir/Goal/g"}}]}}"#;
        let id_only = r#"{"fullUrl":"http://h/fhir/Goal/g","request":{"method":"PUT","url":"Goal/g"}}"#;
        assert_eq!(
            of("subscription-notification", &format!("{status},{id_only}")),
            [changed("Goal", "g")]
        );
        let empty =
            r#"{"resource":{"resourceType":"SubscriptionStatus","notificationEvent":[{"eventNumber":"2"}]}}"#;
        assert_eq!(of("subscription-notification", empty), [BundleEntry::Notice]);
        assert_eq!(of("subscription-notification", ""), []);
    }

    #[test]
    fn a_transaction_gives_its_resources_and_what_is_no_bundle_is_refused() {
        let entry = format!(r#"{{"resource":{PATIENT},"request":{{"method":"PUT","url":"Patient/p-1"}}}}"#);
        assert!(matches!(
            &of("transaction", &entry)[..],
            [BundleEntry::Resource(_)]
        ));
        let error = entries(PATIENT.as_bytes(), 200).unwrap_err();
        assert!(error.message.contains("Bundle"), "{error}");
    }

    #[test]
    fn references_are_taken_relative_absolute_and_versioned_and_nothing_else() {
        for (url, found) in [
            ("Patient/a", Some("a")),
            ("Patient/a?x=1", Some("a")),
            ("https://h/fhir/Patient/a/_history/7", Some("a")),
            ("Patient?identifier=1", None),
            ("urn:uuid:0", None),
            ("patient/a", None),
            ("Patient/a b", None),
            ("", None),
        ] {
            assert_eq!(reference(url).map(|r| r.id).as_deref(), found, "{url}");
        }
    }
}
