//! The views that are measured.

use std::path::PathBuf;

use anyhow::Context as _;

/// A folder of definitions.
pub(crate) struct Catalogue {
    folder: PathBuf,
}

impl Catalogue {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The text of a definition.
    pub(crate) fn definition(&self, name: &str) -> anyhow::Result<String> {
        let path = self.folder.join(format!("{name}.vd.json"));
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Five views that real installations keep beside each other: each takes some of the observations.
    pub(crate) fn five_of_observations(&self) -> anyhow::Result<Vec<String>> {
        let own = [
            include_str!("../../views/vital_signs.vd.json"),
            include_str!("../../views/body_weight.vd.json"),
            include_str!("../../views/smoking_status.vd.json"),
        ];
        let mut five = vec![
            self.definition("observation_lab")?,
            self.definition("observation_bloodpressure")?,
        ];
        five.extend(own.map(str::to_owned));
        Ok(five)
    }
}
