//! Random conditions and questions about them, and a filter that answers these by itself.

use std::collections::BTreeMap;

use fhir_core::resource::{Content, State};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use crate::kit::at;

/// What a random condition is made of, beside what stands in its body.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) id: String,
    pub(crate) version: i64,
    pub(crate) updated: i64,
    /// `None`: deleted.
    holds: Option<Holds>,
}

#[derive(Debug, Clone)]
struct Holds {
    system: Option<&'static str>,
    code: &'static str,
    text: &'static str,
    /// Type and id.
    subject: Option<(&'static str, u32)>,
}

const SYSTEMS: [Option<&str>; 3] = [None, Some("http://a"), Some("http://b")];
const CODES: [&str; 3] = ["1", "2", "3"];
const TEXTS: [&str; 3] = ["Diabetes Mellitus", "Asthma", "diabetes insipidus"];
const SUBJECTS: [&str; 2] = ["Patient", "Group"];

impl Condition {
    pub(crate) fn any(random: &mut StdRng) -> Self {
        let holds = random.random_bool(0.9).then(|| Holds {
            system: *SYSTEMS.choose(random).unwrap(),
            code: CODES.choose(random).unwrap(),
            text: TEXTS.choose(random).unwrap(),
            subject: (random.random_bool(0.9))
                .then(|| (*SUBJECTS.choose(random).unwrap(), random.random_range(0..5))),
        });
        Self {
            id: format!("c{}", random.random_range(0..60)),
            version: random.random_range(1..30),
            updated: random.random_range(0..50),
            holds,
        }
    }

    pub(crate) fn state(&self) -> State {
        let body = self.holds.as_ref().map(|holds| {
            let subject = holds.subject.map(|(of_type, id)| serde_json::json!({"reference": format!("{of_type}/p{id}")}));
            let coding = serde_json::json!({"system": holds.system, "code": holds.code});
            let body = serde_json::json!({
                "resourceType": "Condition", "id": self.id, "code": {"coding": [coding], "text": holds.text}, "subject": subject,
            });
            Content::Body(body.to_string().into())
        });
        State {
            id: self.id.clone(),
            version: self.version,
            last_updated: at(self.updated),
            content: body.unwrap_or(Content::Deleted),
        }
    }

    /// Its patient's id.
    pub(crate) fn patient(&self) -> Option<String> {
        let (of_type, id) = self.holds.as_ref()?.subject?;
        (of_type == "Patient").then(|| format!("p{id}"))
    }

    pub(crate) fn meets(&self, asked: &Asked) -> bool {
        let Some(holds) = &self.holds else {
            return asked.is_empty();
        };
        let code = |alternatives: &Vec<Alternative>| {
            alternatives.iter().any(|(system, code)| {
                system.is_none_or(|system| system == holds.system)
                    && code.is_none_or(|code| code == holds.code)
            })
        };
        asked.code.as_ref().is_none_or(code)
            && (asked.text).is_none_or(|text| holds.text.to_lowercase().contains(&text.to_lowercase()))
            && (asked.patient).is_none_or(|id| holds.subject == Some(("Patient", id)))
            && (asked.id.as_ref()).is_none_or(|ids| ids.contains(&self.id))
    }
}

/// The system (any; none or one) and the code (any; one).
type Alternative = (Option<Option<&'static str>>, Option<&'static str>);

/// Parameters, before they are written.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    code: Option<Vec<Alternative>>,
    text: Option<&'static str>,
    patient: Option<u32>,
    id: Option<Vec<String>>,
}

impl Asked {
    pub(crate) fn any(random: &mut StdRng) -> Self {
        let mut asked = Self::default();
        if random.random_bool(0.5) {
            let alternatives = (0..random.random_range(1..3)).map(|_| match random.random_range(0..4) {
                0 => (None, Some(*CODES.choose(random).unwrap())),
                1 => (Some(Some("http://a")), None),
                _ => (
                    Some(*SYSTEMS.choose(random).unwrap()),
                    Some(*CODES.choose(random).unwrap()),
                ),
            });
            asked.code = Some(alternatives.collect());
        }
        if random.random_bool(0.3) {
            asked.text = Some(["DIABETES", "asthma", "mell"].choose(random).unwrap());
        }
        if random.random_bool(0.3) {
            asked.patient = Some(random.random_range(0..5));
        }
        if random.random_bool(0.2) {
            asked.id = Some(
                (0..20)
                    .map(|_| format!("c{}", random.random_range(0..60)))
                    .collect(),
            );
        }
        asked
    }

    fn is_empty(&self) -> bool {
        self.code.is_none() && self.text.is_none() && self.patient.is_none() && self.id.is_none()
    }

    pub(crate) fn written(&self, random: &mut StdRng) -> Vec<(&'static str, String)> {
        let mut written = Vec::new();
        if let Some(alternatives) = &self.code {
            let token = |(system, code): &Alternative| match system {
                None => code.unwrap_or_default().to_owned(),
                Some(system) => format!("{}|{}", system.unwrap_or_default(), code.unwrap_or_default()),
            };
            written.push((
                "code",
                alternatives.iter().map(token).collect::<Vec<_>>().join(","),
            ));
        }
        if let Some(text) = self.text {
            written.push(("code:text", text.to_owned()));
        }
        if let Some(id) = self.patient {
            let base = ["", "Patient/", "http://hapi/fhir/Patient/"]
                .choose(random)
                .unwrap();
            written.push(("patient", format!("{base}p{id}")));
        }
        if let Some(ids) = &self.id {
            written.push(("_id", ids.join(",")));
        }
        written
    }
}

/// Of each resource what is shown: the later of reading and preview.
pub(crate) fn shown(readings: &[(i64, Condition)], previews: &[Condition], since: i64) -> Vec<Condition> {
    let mut latest: BTreeMap<&str, (i64, &Condition)> = BTreeMap::new();
    for (n, found) in readings {
        let known = latest.get(found.id.as_str());
        if known.is_none_or(|(known, _)| known < n) {
            latest.insert(&found.id, (*n, found));
        }
    }
    let mut shown: BTreeMap<&str, &Condition> =
        latest.into_iter().map(|(id, (_, found))| (id, found)).collect();
    let lately: Vec<_> = previews.iter().filter(|found| found.updated >= since).collect();
    for found in lately {
        if shown
            .get(found.id.as_str())
            .is_none_or(|known| known.version < found.version)
        {
            shown.insert(&found.id, found);
        }
    }
    shown
        .into_values()
        .filter(|found| found.updated >= since)
        .cloned()
        .collect()
}
