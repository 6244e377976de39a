//! Random trees of criteria over several views, against sets that are made of the records themselves: by logic, without SQL and without views.

use std::collections::BTreeSet;

use api::proto::serving::{CohortRequest, CriterionTree, FreshnessDemand, Layers, Operator, SearchParameter};
use e2e::deadline;
use fhir_core::resource::State;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{all_of, any_of, filtered, gone, not, register, request, searched, state};
use crate::fakes::PATIENCE;
use crate::fixture::{CONDITION, Fixture, compare, join_type, mark, search};

/// Patients that may be named; not each of them has a Patient.
const NAMES: u32 = 40;
const TREES: usize = 150;
const SEED: u64 = 20_261_129;

const GENDERS: [&str; 3] = ["male", "female", "other"];
const CODES: [&str; 4] = ["100", "200", "300", "400"];

#[derive(Debug, Clone)]
struct Person {
    id: String,
    gender: &'static str,
    active: Option<bool>,
}

/// A condition, an observation with two codes, or an appointment with several actors.
#[derive(Debug, Clone)]
struct Record {
    id: String,
    /// Patients, by number; of an appointment several.
    patients: Vec<u32>,
    codes: Vec<&'static str>,
    value: u32,
}

#[derive(Debug, Clone, Default)]
struct World {
    people: Vec<Person>,
    conditions: Vec<Record>,
    observations: Vec<Record>,
    appointments: Vec<Record>,
}

impl World {
    fn random(dice: &mut StdRng) -> Self {
        let mut world = Self::default();
        for i in 0..NAMES {
            if dice.random_bool(0.8) {
                world.people.push(person(i, dice));
            }
        }
        for (records, several, kind) in [
            (&mut world.conditions, false, "c"),
            (&mut world.observations, false, "o"),
            (&mut world.appointments, true, "a"),
        ] {
            records.extend((0..50).map(|i| record(kind, i, several, dice)));
        }
        world
    }

    /// Some records change, some go, some are new.
    fn moved_on(&self, dice: &mut StdRng) -> Self {
        let mut world = self.clone();
        world.people.retain(|_| dice.random_bool(0.9));
        for person in &mut world.people {
            if dice.random_bool(0.3) {
                person.gender = GENDERS[dice.random_range(0..GENDERS.len())];
            }
        }
        for (records, several, kind) in [
            (&mut world.conditions, false, "c"),
            (&mut world.observations, false, "o"),
            (&mut world.appointments, true, "a"),
        ] {
            records.retain(|_| dice.random_bool(0.8));
            for i in 0..65 {
                let changed = record(kind, i, several, dice);
                match records.iter_mut().find(|known| known.id == changed.id) {
                    Some(known) if dice.random_bool(0.3) => *known = changed,
                    None if i >= 50 => records.push(changed),
                    _ => {}
                }
            }
        }
        world
    }

    fn states(&self, version: i64) -> [(&'static str, Vec<State>); 4] {
        let people = self.people.iter().map(|person| {
            let active = person
                .active
                .map(|active| format!(r#","active":{active}"#))
                .unwrap_or_default();
            let body = format!(
                r#"{{"resourceType":"Patient","gender":"{}"{active}}}"#,
                person.gender
            );
            state(&person.id, version, body)
        });
        let conditions = self.conditions.iter().map(|of| {
            let body = format!(
                r#"{{"resourceType":"Condition","subject":{{"reference":"Patient/p-{}"}},"code":{{"coding":[{{"code":"{}"}}],"text":"text {}"}},
                    "extension":[{{"url":"urn:severity","valueDecimal":{}}}]}}"#,
                of.patients[0], of.codes[0], of.codes[0], of.value
            );
            state(&of.id, version, body)
        });
        let observations = self.observations.iter().map(|of| {
            // One of a group now and then, which is no patient.
            let whose = if of.value == 9 { "Group" } else { "Patient" };
            let codings: Vec<String> = of.codes.iter().map(|code| format!(r#"{{"code":"{code}"}}"#)).collect();
            let body = format!(
                r#"{{"resourceType":"Observation","subject":{{"reference":"{whose}/p-{}"}},"code":{{"coding":[{}]}},"valueInteger":{}}}"#,
                of.patients[0],
                codings.join(","),
                of.value
            );
            state(&of.id, version, body)
        });
        let appointments = self.appointments.iter().map(|of| {
            let actors = of
                .patients
                .iter()
                .map(|i| format!(r#"{{"actor":{{"reference":"Patient/p-{i}"}}}}"#));
            let actors: Vec<String> = actors
                .chain([r#"{"actor":{"reference":"Practitioner/p-0"}}"#.to_owned()])
                .collect();
            let body = format!(
                r#"{{"resourceType":"Appointment","status":"booked","priority":{},"participant":[{}]}}"#,
                of.value,
                actors.join(",")
            );
            state(&of.id, version, body)
        });
        [
            ("Patient", people.collect()),
            (CONDITION, conditions.collect()),
            ("Observation", observations.collect()),
            ("Appointment", appointments.collect()),
        ]
    }
}

fn person(i: u32, dice: &mut StdRng) -> Person {
    Person {
        id: format!("p-{i}"),
        gender: GENDERS[dice.random_range(0..GENDERS.len())],
        active: [None, Some(true), Some(false)][dice.random_range(0..3)],
    }
}

fn record(kind: &str, i: u32, several: bool, dice: &mut StdRng) -> Record {
    let count = if several { dice.random_range(0..4) } else { 1 };
    Record {
        id: format!("{kind}-{i}"),
        patients: (0..count).map(|_| dice.random_range(0..NAMES)).collect(),
        codes: (0..2).map(|_| CODES[dice.random_range(0..CODES.len())]).collect(),
        value: dice.random_range(0..10),
    }
}

/// A criterion, and how the records of the batch and the merged ones answer it.
struct Atom {
    tree: CriterionTree,
    found: [BTreeSet<String>; 2],
}

/// A tree over atoms.
enum Tree {
    Atom(usize),
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
}

impl Tree {
    fn random(dice: &mut StdRng, atoms: usize, depth: u32) -> Self {
        let list = |dice: &mut StdRng| {
            let length = dice.random_range(1..4);
            (0..length)
                .map(|_| Self::random(dice, atoms, depth - 1))
                .collect()
        };
        match dice.random_range(0..if depth == 0 { 1 } else { 4 }) {
            0 => Self::Atom(dice.random_range(0..atoms)),
            1 => Self::All(list(dice)),
            2 => Self::Any(list(dice)),
            _ => Self::Not(Box::new(Self::random(dice, atoms, depth - 1))),
        }
    }

    fn asked(&self, atoms: &[Atom]) -> CriterionTree {
        let list = |trees: &[Self]| trees.iter().map(|tree| tree.asked(atoms)).collect();
        match self {
            Self::Atom(i) => atoms[*i].tree.clone(),
            Self::All(trees) => all_of(list(trees)),
            Self::Any(trees) => any_of(list(trees)),
            Self::Not(tree) => not(tree.asked(atoms)),
        }
    }

    /// Whether it is true of somebody of whom each atom is what `is` says.
    fn holds(&self, is: &impl Fn(usize) -> bool) -> bool {
        match self {
            Self::Atom(i) => is(*i),
            Self::All(trees) => trees.iter().all(|tree| tree.holds(is)),
            Self::Any(trees) => trees.iter().any(|tree| tree.holds(is)),
            Self::Not(tree) => !tree.holds(is),
        }
    }
}

fn name(i: u32) -> String {
    format!("p-{i}")
}

/// Patients of the records for which `of` holds.
fn of_records(records: &[Record], of: impl Fn(&Record) -> bool) -> BTreeSet<String> {
    let those = records.iter().filter(|record| of(record));
    those
        .flat_map(|record| record.patients.iter().map(|i| name(*i)))
        .collect()
}

fn of_people(people: &[Person], of: impl Fn(&Person) -> bool) -> BTreeSet<String> {
    let those = people.iter().filter(|person| of(person));
    those.map(|person| person.id.clone()).collect()
}

fn atoms(worlds: &[World; 2]) -> Vec<Atom> {
    let mut atoms = Vec::new();
    let mut add = |tree: CriterionTree, found: &dyn Fn(&World) -> BTreeSet<String>| {
        atoms.push(Atom {
            tree,
            found: [found(&worlds[0]), found(&worlds[1])],
        });
    };
    let by = |name: &str, value: &str| -> Vec<SearchParameter> { vec![search(name, "", &[value])] };
    for gender in GENDERS {
        add(searched("people", by("gender", gender)), &|world| {
            of_people(&world.people, |person| person.gender == gender)
        });
    }
    add(
        filtered("people", vec![compare("active", Operator::Equal, &["true"])]),
        &|world| of_people(&world.people, |person| person.active == Some(true)),
    );
    add(
        filtered("people", vec![compare("active", Operator::IsNull, &[])]),
        &|world| of_people(&world.people, |person| person.active.is_none()),
    );
    add(
        searched("people", vec![search("_id", "", &["p-1", "p-2", "p-3", "p-40"])]),
        &|world| {
            of_people(&world.people, |person| {
                ["p-1", "p-2", "p-3"].contains(&person.id.as_str())
            })
        },
    );
    for code in CODES {
        add(searched("conditions", by("code", code)), &|world| {
            of_records(&world.conditions, |of| of.codes[0] == code)
        });
        add(
            filtered("codes", vec![compare("code", Operator::Equal, &[code])]),
            &|world| {
                of_records(&world.observations, |of| {
                    of.value != 9 && of.codes.contains(&code)
                })
            },
        );
    }
    add(
        searched("conditions", vec![search("code", "text", &["TEXT 2"])]),
        &|world| of_records(&world.conditions, |of| of.codes[0] == "200"),
    );
    for value in 0..9 {
        let text = value.to_string();
        add(
            filtered(
                "conditions",
                vec![compare("severity", Operator::GreaterOrEqual, &[&text])],
            ),
            &|world| of_records(&world.conditions, |of| of.value >= value),
        );
        add(
            filtered("codes", vec![compare("value", Operator::Less, &[&text])]),
            &|world| of_records(&world.observations, |of| of.value != 9 && of.value < value),
        );
        add(
            filtered(
                "appointments",
                vec![compare("urgency", Operator::Equal, &[&text])],
            ),
            &|world| of_records(&world.appointments, |of| of.value == value),
        );
    }
    add(filtered("appointments", vec![]), &|world| {
        of_records(&world.appointments, |_| true)
    });
    add(filtered("codes", vec![]), &|world| {
        of_records(&world.observations, |of| of.value != 9)
    });
    add(filtered("conditions", vec![]), &|world| {
        of_records(&world.conditions, |_| true)
    });
    // Two conditions on one row.
    add(
        filtered(
            "codes",
            vec![
                compare("code", Operator::In, &["100", "300"]),
                compare("value", Operator::NotEqual, &["4"]),
            ],
        ),
        &|world| {
            of_records(&world.observations, |of| {
                of.value != 9 && of.value != 4 && of.codes.iter().any(|code| ["100", "300"].contains(code))
            })
        },
    );
    atoms
}

/// Views whose rows say whose they are in four ways.
async fn over(batch: &World, merged: &World) -> anyhow::Result<Fixture> {
    let [(_, people), (_, conditions), (_, observations), (_, appointments)] = batch.states(1);
    let fixture = Fixture::over(&conditions).await?;
    let owner = &fixture.owner;
    let select = r#""select": [{"column": [{"name": "gender", "path": "gender", "type": "code"}, {"name": "active", "path": "active", "type": "boolean"}]}]"#;
    register(owner, "people", "Patient", select).await?;
    join_type(owner, "Patient", 2, &people).await?;
    let select = r#""select": [{"column": [{"name": "who", "path": "subject.reference"}, {"name": "value", "path": "value.ofType(integer)", "type": "integer"}]},
        {"forEach": "code.coding", "column": [{"name": "code", "path": "code", "type": "code"}]}]"#;
    register(owner, "codes", "Observation", select).await?;
    join_type(owner, "Observation", 3, &observations).await?;
    let select = r#""select": [{"column": [{"name": "actors", "path": "participant.actor.getReferenceKey(Patient)", "collection": true,
        "tag": [{"name": "search-param", "value": "patient"}]}, {"name": "urgency", "path": "priority", "type": "integer"}]}]"#;
    register(owner, "appointments", "Appointment", select).await?;
    join_type(owner, "Appointment", 4, &appointments).await?;

    let last = mark(9);
    for ((resource_type, before), (_, after)) in batch.states(1).into_iter().zip(merged.states(2)) {
        let removed = before
            .iter()
            .filter(|old| after.iter().all(|new| new.id != old.id));
        let mut live: Vec<State> = removed.map(|old| gone(&old.id, 2)).collect();
        live.extend(after);
        fixture.speed.round(resource_type, live, last);
    }
    let applied = api::time::timestamp(last.as_of);
    for view in ["people", "conditions", "codes", "appointments"] {
        deadline::until("the live rows are visible", PATIENCE, || async {
            let found = fixture
                .gateway
                .cohort(request(filtered(view, vec![])))
                .await
                .ok()?;
            // To the microsecond, as PostgreSQL keeps it.
            (found.header.freshness?.speed_as_of? == applied).then_some(())
        })
        .await?;
    }
    Ok(fixture)
}

#[tokio::test]
async fn random_trees_find_who_logic_says() -> anyhow::Result<()> {
    let mut dice = StdRng::seed_from_u64(SEED);
    let batch = World::random(&mut dice);
    let merged = batch.moved_on(&mut dice);
    let fixture = over(&batch, &merged).await?;
    let worlds = [batch, merged];
    let atoms = atoms(&worlds);
    let mut seen = [0; 4];
    for round in 0..TREES {
        let tree = Tree::random(&mut dice, atoms.len(), 4);
        // True of somebody whom nobody finds: then it is about all patients.
        let about_all = tree.holds(&|_| false);
        for (layer, layers) in [(0, Layers::Batch), (1, Layers::Merged)] {
            let everyone = of_people(&worlds[layer].people, |_| true);
            let expected: Vec<String> = (0..=NAMES)
                .map(name)
                .filter(|id| !about_all || everyone.contains(id))
                .filter(|id| tree.holds(&|i| atoms[i].found[layer].contains(id)))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            let asked = CohortRequest {
                freshness: Some(FreshnessDemand {
                    layers: layers.into(),
                    ..Default::default()
                }),
                ..request(tree.asked(&atoms))
            };
            let found = fixture.gateway.cohort(asked.clone()).await?;
            assert_eq!(
                found.ids, expected,
                "seed {SEED}, round {round}, {layers:?}: {:?}",
                asked.criteria
            );
            assert_eq!(usize::try_from(found.header.patient_count)?, expected.len());
            let counted = CohortRequest {
                count_only: true,
                ..asked
            };
            let counted = fixture.gateway.cohort(counted).await?;
            assert_eq!(usize::try_from(counted.header.patient_count)?, expected.len());
            seen[usize::from(about_all) * 2 + usize::from(!expected.is_empty())] += 1;
        }
    }
    // Those about all patients find some, as a rule.
    assert!(seen[0] >= 10 && seen[1] >= 60 && seen[3] >= 60, "{seen:?}");
    Ok(())
}
