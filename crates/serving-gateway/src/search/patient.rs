//! Whose a row is: the columns that a view binds to the search parameter `patient`.

use fhir_core::column::Column;
use view_store::{KeyColumn, KeyForm};

use super::{Bindings, Compared, element_of};

/// The parameter by which a view says whose its rows are.
const PARAMETER: &str = "patient";

impl Bindings {
    /// The columns that say whose a row is; none if no column does. Where two columns hold the same reference, one as a key and one as it is written, the key counts alone.
    pub(crate) fn patient_columns(&self, columns: &[Column]) -> Vec<KeyColumn> {
        let Some(binding) = self.bound.get(PARAMETER) else {
            return Vec::new();
        };
        let element = |name: &str| {
            let column = columns.iter().find(|column| column.name == name)?;
            let path = element_of(&column.path);
            let (element, _) = path.rsplit_once('.')?;
            Some(element.to_owned())
        };
        let keyed: Vec<Option<String>> = binding
            .targets
            .iter()
            .filter(|target| matches!(target.compared, Compared::Key(_)))
            .map(|target| element(&target.column))
            .collect();
        binding
            .targets
            .iter()
            .filter_map(|target| {
                let form = match target.compared {
                    Compared::Key(_) => KeyForm::Id,
                    Compared::RelativeReference(_) if keyed.contains(&element(&target.column)) => {
                        return None;
                    }
                    Compared::RelativeReference(_) => KeyForm::Reference,
                    // By its tag alone: what it holds, its values say.
                    Compared::Code { .. } => KeyForm::IdOrReference,
                    Compared::Words | Compared::Date => return None,
                };
                Some(KeyColumn {
                    name: target.column.clone(),
                    form,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use fhir_core::view::CompiledView;

    use super::*;

    fn columns_of(resource: &str, columns: &str) -> Vec<(String, KeyForm)> {
        let definition = format!(
            r#"{{"resource": "{resource}", "name": "v", "status": "active", "select": [{{"column": [{columns}]}}]}}"#
        );
        let view = CompiledView::from_json(&definition).expect("a view");
        Bindings::of("v", resource, view.columns())
            .patient_columns(view.columns())
            .into_iter()
            .map(|key| (key.name, key.form))
            .collect()
    }

    #[test]
    fn a_row_says_whose_it_is_by_key_reference_or_tag() {
        let key = r#"{"name": "key", "path": "subject.getReferenceKey(Patient)"}"#;
        let reference = r#"{"name": "ref", "path": "subject.reference"}"#;
        let tagged = r#"{"name": "mother", "path": "extension('urn:m').value.ofType(string).first()", "tag": [{"name": "search-param", "value": "patient"}]}"#;
        let any = r#"{"name": "any", "path": "subject.getReferenceKey()"}"#;
        let of = |columns: &str| columns_of("Observation", columns);
        assert_eq!(of(key), [("key".to_owned(), KeyForm::Id)]);
        assert_eq!(of(reference), [("ref".to_owned(), KeyForm::Reference)]);
        assert_eq!(
            of(&format!("{reference}, {key}")),
            [("key".to_owned(), KeyForm::Id)]
        );
        assert_eq!(
            of(&format!("{key}, {tagged}")),
            [
                ("key".to_owned(), KeyForm::Id),
                ("mother".to_owned(), KeyForm::IdOrReference)
            ]
        );
        // It may be a group's.
        assert_eq!(of(any), []);
        assert_eq!(
            columns_of(
                "Immunization",
                r#"{"name": "p", "path": "patient.getReferenceKey(Patient)"}"#
            ),
            [("p".to_owned(), KeyForm::Id)]
        );
    }
}
