//! Prescriptions.

use chrono::Duration;
use serde_json::{Value, json};

use super::codes::Ailment;
use super::dice::Dice;
use super::encounter::{Visit, date_time};
use super::person::Person;

pub(crate) fn draw(dice: &mut Dice, person: &Person, visit: &Visit, ailment: &Ailment) -> Vec<Value> {
    let mut requests = Vec::new();
    for drug in ailment.drugs {
        if dice.percent(30) {
            continue;
        }
        let status = *dice.pick(&["active", "active", "completed", "stopped", "on-hold"]);
        let mut request = json!({
            "resourceType": "MedicationRequest",
            "id": dice.id(),
            "status": status,
            "intent": "order",
        });
        request["medicationCodeableConcept"] = if dice.percent(93) {
            json!({
                "coding": [{"system": "http://www.nlm.nih.gov/research/umls/rxnorm", "code": drug.rxnorm, "display": drug.display}],
                "text": drug.display,
            })
        } else {
            json!({"text": drug.display})
        };
        request["subject"] = person.reference.clone();
        if dice.percent(90) {
            request["encounter"] = visit.reference.clone();
        }
        if dice.percent(97) {
            request["authoredOn"] = json!(date_time(visit.start + Duration::minutes(dice.between(1, 40))));
        }
        if dice.percent(60) {
            request["requester"] = json!({"display": "Dr. Przybyszewska"});
        }
        if dice.percent(55) {
            request["reasonCode"] = json!([{"coding": [
                {"system": "http://snomed.info/sct", "code": ailment.snomed, "display": ailment.display},
            ]}]);
        }
        if dice.percent(85) {
            request["dosageInstruction"] = json!([{
                "sequence": 1,
                "text": format!("{} × {}", drug.per_day, drug.dose),
                "timing": {"repeat": {"frequency": drug.per_day, "period": dice.decimal(10, 10, 1), "periodUnit": "d"}},
                "asNeededBoolean": dice.percent(15),
            }]);
        }
        requests.push(request);
    }
    requests
}
