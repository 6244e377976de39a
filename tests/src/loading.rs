//! Filling HAPI: generated patients, or a folder of NDJSON files.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::Context;
use flate2::read::MultiGzDecoder;
use serde_json::Value;

use crate::fhir::Fhir;
use crate::patients::Hospital;

/// Types in an order in which a server that checks references accepts them; others come after, by name.
const ORDER: [&str; 14] = [
    "Organization",
    "Practitioner",
    "Patient",
    "Encounter",
    "Condition",
    "Observation",
    "Procedure",
    "Immunization",
    "MedicationRequest",
    "DiagnosticReport",
    "Goal",
    "CarePlan",
    "AllergyIntolerance",
    "ImagingStudy",
];

/// What a transaction holds.
const CHUNK: usize = 100;

/// Number of resources by type, in the order of loading.
pub type Loaded = Vec<(String, u64)>;

/// Loads the first `count` patients of a hospital with all that hangs on them.
pub async fn load_patients(fhir: &Fhir, hospital: Hospital, count: u64) -> anyhow::Result<Loaded> {
    let mut resources: Vec<Value> = hospital.resources(count).collect();
    let place = |resource: &Value| rank(resource["resourceType"].as_str().unwrap_or_default());
    resources.sort_by_key(place);
    fhir.load(&resources).await?;
    let mut loaded: Loaded = Vec::new();
    for resource in &resources {
        let name = resource["resourceType"].as_str().unwrap_or_default();
        match loaded.last_mut() {
            Some((last, count)) if last == name => *count += 1,
            _ => loaded.push((name.to_owned(), 1)),
        }
    }
    Ok(loaded)
}

/// Loads a folder of `<Type>.ndjson` or `<Type>.ndjson.gz` files, one transaction in memory at a time.
pub async fn load_folder(fhir: &Fhir, folder: &Path) -> anyhow::Result<Loaded> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some(resource_type) = name
            .strip_suffix(".ndjson.gz")
            .or_else(|| name.strip_suffix(".ndjson"))
        {
            files.push((resource_type.to_owned(), path));
        }
    }
    anyhow::ensure!(!files.is_empty(), "{} holds no .ndjson.gz file", folder.display());
    files.sort_by_key(|(name, _)| (rank(name), name.clone()));
    let mut loaded = Loaded::new();
    for (resource_type, path) in files {
        let count = load_file(fhir, &path)
            .await
            .with_context(|| format!("cannot load {}", path.display()))?;
        loaded.push((resource_type, count));
    }
    Ok(loaded)
}

async fn load_file(fhir: &Fhir, path: &Path) -> anyhow::Result<u64> {
    let file = File::open(path)?;
    let lines: Box<dyn BufRead + Send> = if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    };
    let (mut count, mut chunk) = (0, Vec::with_capacity(CHUNK));
    for line in lines.lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        chunk.push(serde_json::from_str::<Value>(&line)?);
        count += 1;
        if chunk.len() == CHUNK {
            fhir.load(&chunk).await?;
            chunk.clear();
        }
    }
    fhir.load(&chunk).await?;
    Ok(count)
}

fn rank(resource_type: &str) -> usize {
    ORDER
        .iter()
        .position(|one| *one == resource_type)
        .unwrap_or(ORDER.len())
}
