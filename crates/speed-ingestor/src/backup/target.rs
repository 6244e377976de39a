//! Where backups lie: a folder, or a bucket of S3. `<name>/<Type>.ndjson.gz` for each type, and `<name>/manifest.json`.

mod open;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt as _, PutPayload, buffered::BufWriter, path::Path,
};

pub use open::{S3Settings, TargetSettings, is_usable};

use super::{
    BackupError, BackupName,
    format::{FORMAT, Manifest},
};

const MANIFEST: &str = "manifest.json";
/// Of an upload: S3 asks for at least 5 MiB, and takes at most 10,000 of them.
const PART: usize = 8 * 1024 * 1024;
/// Parts on their way at the same time. With the one that is being filled they bound the memory of a backup.
const PARTS_AT_ONCE: usize = 2;
/// What is read of an object at once.
const RANGE: u64 = 4 * 1024 * 1024;

/// A place for backups.
#[derive(Debug)]
pub struct Target {
    objects: Arc<dyn ObjectStore>,
    /// Where it is a folder.
    folder: Option<PathBuf>,
}

/// Reads an object from its beginning to its end, as it was when it was first touched.
#[derive(Debug)]
pub struct Reader<'a> {
    target: &'a Target,
    path: Path,
    at: u64,
    size: u64,
    e_tag: Option<String>,
}

impl Target {
    /// Names of complete backups, newest first.
    pub async fn complete(&self) -> Result<Vec<BackupName>, BackupError> {
        let mut complete = Vec::new();
        for name in self.names().await? {
            match self.objects.head(&path(&name, MANIFEST)).await {
                Ok(_) => complete.push(name),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(complete)
    }

    /// Names of all backups, complete or not, newest first.
    pub async fn names(&self) -> Result<Vec<BackupName>, BackupError> {
        let found = self.objects.list_with_delimiter(None).await?;
        let mut names: Vec<BackupName> = found
            .common_prefixes
            .iter()
            .filter_map(|prefix| BackupName::parse(prefix.filename()?))
            .collect();
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    /// The manifest of a backup; `None`: there is no such backup.
    pub async fn manifest(&self, name: &BackupName) -> Result<Option<Manifest>, BackupError> {
        let text = match self.objects.get(&path(name, MANIFEST)).await {
            Ok(found) => found.bytes().await?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let manifest = Manifest::open(&text).map_err(|malformed| damaged(name, MANIFEST, malformed.0))?;
        if manifest.format > FORMAT {
            return Err(BackupError::Later(manifest.format));
        }
        if manifest.name != name.as_str() {
            return Err(damaged(name, MANIFEST, "it is that of another backup"));
        }
        Ok(Some(manifest))
    }

    /// Makes a backup complete.
    pub async fn put_manifest(&self, name: &BackupName, manifest: &Manifest) -> Result<(), BackupError> {
        let sealed = manifest.seal().map_err(std::io::Error::from)?;
        self.objects
            .put(&path(name, MANIFEST), PutPayload::from(sealed))
            .await?;
        Ok(())
    }

    /// Writes an object in parts; it is there once the writer was shut down.
    pub fn write(&self, name: &BackupName, object: &str) -> BufWriter {
        BufWriter::with_capacity(self.objects.clone(), path(name, object), PART)
            .with_max_concurrency(PARTS_AT_ONCE)
    }

    /// Reads an object; `None`: there is none.
    pub async fn read(&self, name: &BackupName, object: &str) -> Result<Option<Reader<'_>>, BackupError> {
        let path = path(name, object);
        match self.objects.head(&path).await {
            Ok(meta) => Ok(Some(Reader {
                target: self,
                path,
                at: 0,
                size: meta.size,
                e_tag: meta.e_tag,
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a backup, its manifest first, and what an upload has left of it.
    pub async fn delete(&self, name: &BackupName) -> Result<(), BackupError> {
        let gone = |result: object_store::Result<()>| match result {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        };
        gone(self.objects.delete(&path(name, MANIFEST)).await)?;
        let objects: Vec<_> = self
            .objects
            .list(Some(&Path::from(name.as_str())))
            .try_collect()
            .await?;
        for object in objects {
            gone(self.objects.delete(&object.location).await)?;
        }
        // Parts of objects that were never finished are in no list of a folder.
        if let Some(folder) = &self.folder
            && let Err(error) = tokio::fs::remove_dir_all(folder.join(name.as_str())).await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error.into());
        }
        Ok(())
    }
}

impl Reader<'_> {
    /// The next part; `None` at the end. An error of [`object_store::Error::Precondition`] or `NotFound`: the object has changed meanwhile.
    pub async fn next(&mut self) -> object_store::Result<Option<Bytes>> {
        if self.at == self.size {
            return Ok(None);
        }
        let end = self.size.min(self.at + RANGE);
        let options = GetOptions {
            range: Some((self.at..end).into()),
            if_match: self.e_tag.clone(),
            ..GetOptions::default()
        };
        let part = self
            .target
            .objects
            .get_opts(&self.path, options)
            .await?
            .bytes()
            .await?;
        self.at = end;
        Ok(Some(part))
    }

    /// From the beginning again.
    pub fn rewind(&mut self) {
        self.at = 0;
    }
}

pub(super) fn damaged(name: &BackupName, object: &str, what: &'static str) -> BackupError {
    BackupError::Damaged {
        name: name.to_string(),
        object: object.to_owned(),
        what,
    }
}

fn path(name: &BackupName, object: &str) -> Path {
    Path::from_iter([name.as_str(), object])
}
