//! What happens to patients later: updates, deletes, re-creations, new findings. Endless, and the same for the same seed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Hospital;
use super::dice::Dice;

/// One write.
#[derive(Debug, Clone)]
pub enum Change {
    /// Create, update or re-create: PUT under the resource's own type and id.
    Put(Value),
    /// Delete.
    Delete {
        /// Resource type.
        resource_type: String,
        /// Id.
        id: String,
    },
}

/// Changes of the first `count` patients of a hospital, in an order in which a server that checks references accepts them: nothing is deleted that
/// others refer to.
#[derive(Debug)]
pub struct Changes {
    hospital: Hospital,
    count: u64,
    dice: Dice,
    deleted: BTreeMap<String, Value>,
}

impl Hospital {
    /// What happens to its first `count` patients (at least one) later.
    pub fn changes(self, count: u64) -> Changes {
        Changes {
            hospital: self,
            count: count.max(1),
            dice: Dice::new(!self.seed),
            deleted: BTreeMap::new(),
        }
    }
}

impl Iterator for Changes {
    type Item = Change;

    fn next(&mut self) -> Option<Change> {
        // Resources that nothing refers to come and go; the others change.
        if !self.deleted.is_empty() && self.dice.percent(15) {
            let keys: Vec<String> = self.deleted.keys().cloned().collect();
            let key = self.dice.pick(&keys);
            return self.deleted.remove(key).map(Change::Put);
        }
        let last = i64::try_from(self.count).unwrap_or(i64::MAX) - 1;
        let index = u64::try_from(self.dice.between(0, last)).unwrap_or(0);
        let resources = self.hospital.patient(index);
        let resource = self.dice.pick(&resources).clone();
        let (resource_type, id) = (text(&resource, "resourceType"), text(&resource, "id"));
        let free = !matches!(resource_type.as_str(), "Patient" | "Encounter");
        if self.deleted.contains_key(&id) {
            return self.next();
        }
        if free && self.dice.percent(25) {
            self.deleted.insert(id.clone(), resource);
            return Some(Change::Delete { resource_type, id });
        }
        let changed = change(&mut self.dice, resource, &resource_type);
        Some(Change::Put(changed))
    }
}

fn text(resource: &Value, member: &str) -> String {
    resource[member].as_str().unwrap_or_default().to_owned()
}

fn change(dice: &mut Dice, mut resource: Value, resource_type: &str) -> Value {
    match resource_type {
        "Patient" => {
            resource["gender"] = json!(*dice.pick(&["male", "female", "other", "unknown"]));
            resource["address"] =
                json!([{"city": "Târgu Mureș", "postalCode": dice.between(10_000, 99_999).to_string()}]);
            if dice.percent(20)
                && let Some(members) = resource.as_object_mut()
            {
                members.shift_remove("name");
            }
        }
        "Encounter" => resource["status"] = json!(*dice.pick(&["finished", "in-progress", "cancelled"])),
        "Condition" => {
            let severity = *dice.pick(&["mild", "moderate", "severe"]);
            resource["severity"] = json!({"text": severity});
            resource["code"]["text"] = json!(format!("{severity} — {}", dice.between(1, 99)));
        }
        "Observation" => {
            resource["status"] = json!("corrected");
            if resource.get("valueQuantity").is_some() {
                resource["valueQuantity"]["value"] = dice.decimal(0, 100_000, 2);
            } else {
                resource["note"] = json!([{"text": format!("corrected {}", dice.between(1, 999))}]);
            }
        }
        _ => resource["status"] = json!(*dice.pick(&["stopped", "completed", "on-hold"])),
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_of_change_occur_and_only_the_deleted_comes_back() {
        let (mut deletes, mut back, mut updates) = (0, 0, 0);
        let mut gone = std::collections::BTreeSet::new();
        for change in Hospital::new(3).changes(20).take(500) {
            match change {
                Change::Put(resource) if gone.remove(&text(&resource, "id")) => back += 1,
                Change::Put(_) => updates += 1,
                Change::Delete { id, .. } => {
                    assert!(gone.insert(id));
                    deletes += 1;
                }
            }
        }
        assert!(
            deletes > 50 && back > 20 && updates > 200,
            "{deletes} {back} {updates}"
        );
    }
}
