//! Certificates as an authority issues them, and files that are exchanged as Kubernetes exchanges those of a mounted Secret.

use std::path::{Path, PathBuf};

use chrono::{Datelike as _, TimeDelta};
use daemon::{Clock as _, SystemClock};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

/// Signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate, in PEM.
    pub pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl Authority {
    /// One that nobody knows yet.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
        })
    }

    /// A certificate for these names: DNS names and addresses.
    pub fn issue(&self, names: &[&str]) -> anyhow::Result<Pair> {
        self.sign(&params(names)?)
    }

    /// One that has ended long ago.
    pub fn issue_expired(&self, names: &[&str]) -> anyhow::Result<Pair> {
        let mut params = params(names)?;
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(&params)
    }

    /// One that ends so many days from now.
    pub fn issue_for_days(&self, names: &[&str], days: i64) -> anyhow::Result<Pair> {
        let end = (SystemClock.now() + TimeDelta::days(days)).date_naive();
        let mut params = params(names)?;
        params.not_after = date_time_ymd(end.year(), u8::try_from(end.month())?, u8::try_from(end.day())?);
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> anyhow::Result<Pair> {
        let key = KeyPair::generate()?;
        Ok(Pair {
            certificate: params.signed_by(&key, &self.issuer)?.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn params(names: &[&str]) -> anyhow::Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    Ok(CertificateParams::new(names)?)
}

/// A folder whose files change all at once: a link to another folder takes the place of the one before.
#[derive(Debug)]
pub struct Mounted {
    folder: PathBuf,
    versions: u32,
}

impl Mounted {
    /// Below this folder; nothing is in it yet.
    pub fn below(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            versions: 0,
        }
    }

    /// Where its files are.
    pub fn path(&self) -> PathBuf {
        self.folder.join("mounted")
    }

    /// Exchanges all files for these.
    pub fn exchange(&mut self, files: &[(String, String)]) -> anyhow::Result<()> {
        self.versions += 1;
        let version = self.folder.join(format!("version-{}", self.versions));
        std::fs::create_dir_all(&version)?;
        for (name, text) in files {
            std::fs::write(version.join(name), text)?;
        }
        let aside = self.folder.join("aside");
        std::os::unix::fs::symlink(&version, &aside)?;
        std::fs::rename(aside, self.path())?;
        Ok(())
    }
}
