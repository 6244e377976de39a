//! From settings to a place.

use std::{os::unix::fs::DirBuilderExt as _, path::PathBuf, sync::Arc, time::Duration};

use daemon::Secret;
use object_store::{
    ClientOptions, RetryConfig, aws::AmazonS3Builder, local::LocalFileSystem, path::Path, prefix::PrefixStore,
};

use super::{BackupError, Target};

/// Requests are small (a part at most): what takes longer hangs.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A backup is tried again by the schedule, a restore by whoever asked for it.
const RETRIES: usize = 4;
const RETRY_TIMEOUT: Duration = Duration::from_mins(1);

/// Where backups lie.
#[derive(Debug, Clone)]
pub struct TargetSettings {
    /// `file:///folder` or `s3://bucket/prefix`.
    pub url: String,
    /// How a bucket is reached.
    pub s3: S3Settings,
}

/// How a bucket is reached.
#[derive(Debug, Clone)]
pub struct S3Settings {
    /// `""`: that of AWS for the region.
    pub endpoint: String,
    /// `us-east-1`
    pub region: String,
    /// `""`: credentials are found as AWS' programs find them.
    pub access_key_id: Secret,
    /// Beside the key's id.
    pub secret_access_key: Secret,
    /// Beside both, where they are temporary.
    pub session_token: Secret,
    /// Whether HTTP without TLS is allowed.
    pub allow_http: bool,
    /// The key of KMS that objects are encrypted with; `""`: as the bucket says.
    pub kms_key_id: String,
}

enum Place<'a> {
    Folder(PathBuf),
    Bucket { bucket: &'a str, prefix: Path },
}

/// Whether a text is a URL that can be used; `""` is not.
pub fn is_usable(url: &str) -> bool {
    place(url).is_some()
}

fn place(url: &str) -> Option<Place<'_>> {
    if let Some(folder) = url.strip_prefix("file://") {
        return (folder.starts_with('/') && folder.len() > 1).then(|| Place::Folder(folder.into()));
    }
    let (bucket, prefix) = url
        .strip_prefix("s3://")
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))?;
    let is_name = (3..=63).contains(&bucket.len())
        && bucket
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
    let prefix = Path::parse(prefix.trim_end_matches('/')).ok()?;
    is_name.then_some(Place::Bucket { bucket, prefix })
}

impl Target {
    /// Makes the folder, or the client of the bucket; of a bucket nothing is reached yet.
    pub fn open(settings: &TargetSettings) -> Result<Self, BackupError> {
        match place(&settings.url) {
            Some(Place::Folder(folder)) => {
                // It holds resources: nobody else may look into it. One that is there stays as it is.
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(&folder)?;
                let objects = LocalFileSystem::new_with_prefix(&folder)?.with_fsync(true);
                Ok(Self {
                    objects: Arc::new(objects),
                    folder: Some(folder),
                })
            }
            Some(Place::Bucket { bucket, prefix }) => {
                let objects = s3(bucket, &settings.s3).build()?;
                Ok(Self {
                    objects: Arc::new(PrefixStore::new(objects, prefix)),
                    folder: None,
                })
            }
            // The configuration was checked.
            None => Err(BackupError::Folder(std::io::ErrorKind::InvalidInput.into())),
        }
    }
}

fn s3(bucket: &str, settings: &S3Settings) -> AmazonS3Builder {
    let own_key = !settings.access_key_id.expose().is_empty();
    let mut builder = if own_key {
        AmazonS3Builder::new()
            .with_access_key_id(settings.access_key_id.expose())
            .with_secret_access_key(settings.secret_access_key.expose())
    } else {
        AmazonS3Builder::from_env()
    };
    if !settings.session_token.expose().is_empty() {
        builder = builder.with_token(settings.session_token.expose());
    }
    if !settings.endpoint.is_empty() {
        builder = builder.with_endpoint(&settings.endpoint);
    }
    if !settings.kms_key_id.is_empty() {
        builder = builder.with_sse_kms_encryption(&settings.kms_key_id);
    }
    let client = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_allow_http(settings.allow_http);
    builder
        .with_bucket_name(bucket)
        .with_region(&settings.region)
        .with_client_options(client)
        .with_retry(RetryConfig {
            max_retries: RETRIES,
            retry_timeout: RETRY_TIMEOUT,
            ..RetryConfig::default()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_folder_or_a_bucket() {
        for good in [
            "file:///var/backups/speed",
            "s3://bucket",
            "s3://my-bucket.1/a/b/",
            "s3://bucket/",
        ] {
            assert!(is_usable(good), "{good}");
        }
        for bad in [
            "",
            "/var/backups",
            "file://var/backups",
            "file:///",
            "s3://",
            "s3://Bucket",
            "s3://user:secret@bucket",
            "s3://bucket/../x",
            "https://bucket",
        ] {
            assert!(!is_usable(bad), "{bad}");
        }
    }
}
