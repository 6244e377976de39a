//! ViewDefinitions in a folder, registered at start.

use std::path::Path;

use fhir_core::view::CompiledView;
use view_store::{PutOutcome, StoreError, ViewStore};

/// What became of a folder.
#[derive(Debug, Default)]
pub struct FolderOutcome {
    /// Views that are registered now, with what that did.
    pub registered: Vec<(String, PutOutcome)>,
    /// Files that were left out: which file, which place in the view, which rule.
    pub problems: Vec<String>,
}

/// Registers every `*.json` of the folder, in the order of their names. A file that cannot be used is a problem and harms no other; only the views'
/// PostgreSQL can fail the whole.
pub async fn register(store: &ViewStore, folder: &Path) -> Result<FolderOutcome, StoreError> {
    let mut outcome = FolderOutcome::default();
    let files = match json_files(folder) {
        Ok(files) => files,
        Err(error) => {
            outcome.problems.push(format!(
                "{}: the folder of views cannot be read: {error}",
                folder.display()
            ));
            return Ok(outcome);
        }
    };
    for file in files {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match register_file(store, &file).await {
            Ok(Ok(registered)) => outcome.registered.push(registered),
            Ok(Err(problem)) => outcome.problems.push(format!("{name}: {problem}")),
            Err(error @ StoreError::Database { .. }) => return Err(error),
            Err(error) => outcome.problems.push(format!("{name}: {error}")),
        }
    }
    Ok(outcome)
}

fn json_files(folder: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
    let mut files = std::fs::read_dir(folder)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) && path.is_file());
    files.sort();
    Ok(files)
}

async fn register_file(
    store: &ViewStore,
    file: &Path,
) -> Result<Result<(String, PutOutcome), String>, StoreError> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => return Ok(Err(format!("cannot be read: {error}"))),
    };
    let view = match compile(&text) {
        Ok(view) => view,
        Err(problem) => return Ok(Err(problem)),
    };
    let outcome = store.put_view(&view, &text, false).await?;
    Ok(Ok((view.name().to_owned(), outcome)))
}

/// Compiles a definition that is to be registered: valid, and with a name.
pub(crate) fn compile(definition: &str) -> Result<CompiledView, String> {
    let view = CompiledView::from_json(definition).map_err(|errors| errors.to_string())?;
    if view.name().is_empty() {
        return Err("name: a view that is to be kept needs a name; add one".to_owned());
    }
    Ok(view)
}
