//! Resources as HAPI stores them, as many as are asked for, one after the other: copies of a folder's, or generated ones.
//!
//! A copy is the folder's resources with other ids: every UUID in them is changed by a bijection that is the copy's own, so references go on
//! leading to resources of the same copy.

use std::{
    borrow::Cow,
    fmt,
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, ensure};
use e2e::patients::Hospital;
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

/// Where resources come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// `{Type}.ndjson.gz`
    Folder(PathBuf),
    /// The generator of synthetic patients.
    Generated,
}

/// A resource as HAPI stores it.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) id: Vec<u8>,
    /// Without `id` and `meta`.
    pub(crate) text: Vec<u8>,
    pub(crate) tags: Vec<Tag>,
}

/// What HAPI keeps of `meta` in tables of its own.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag {
    /// `hfj_tag_def.tag_type`
    pub(crate) kind: i32,
    pub(crate) system: String,
    pub(crate) code: String,
    pub(crate) display: Option<String>,
}

/// Whether more is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    More,
    Enough,
}

impl Source {
    pub(crate) fn new(folder: Option<PathBuf>) -> Self {
        folder.map_or(Self::Generated, Self::Folder)
    }

    /// Gives resources of a type until the taker has enough.
    pub(crate) fn give(
        &self,
        resource_type: &str,
        mut taker: impl FnMut(Stored) -> anyhow::Result<Wanted>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Folder(folder) => {
                let path = folder.join(format!("{resource_type}.ndjson.gz"));
                copy_until_enough(&path, &mut taker).with_context(|| format!("{}", path.display()))
            }
            Self::Generated => {
                let hospital = Hospital::new(1);
                for resource in (0..).flat_map(|index| hospital.patient(index)) {
                    if resource["resourceType"] == resource_type
                        && taker(stored(&resource.to_string())?)? == Wanted::Enough
                    {
                        break;
                    }
                }
                Ok(())
            }
        }
    }
}

fn copy_until_enough(
    path: &Path,
    taker: &mut impl FnMut(Stored) -> anyhow::Result<Wanted>,
) -> anyhow::Result<()> {
    for copy in 0.. {
        let mut given = 0;
        for line in BufReader::new(MultiGzDecoder::new(File::open(path)?)).lines() {
            let mut resource = stored(&line?)?;
            ensure!(
                is_uuid(&resource.id),
                "copies need ids that are UUIDs, and one is not"
            );
            rename(&mut resource.id, copy);
            rename(&mut resource.text, copy);
            given += 1;
            if taker(resource)? == Wanted::Enough {
                return Ok(());
            }
        }
        ensure!(given > 0, "no resources");
    }
    Ok(())
}

/// The bijection of a copy: the first copy keeps its ids. The last 96 bits say which resource it is, the first 32 which copy.
fn rename(text: &mut [u8], copy: u32) {
    let mask = copy.wrapping_mul(0x9E37_79B1);
    if mask == 0 {
        return;
    }
    let mut at = 0;
    while at + UUID <= text.len() {
        // From its first dash a UUID is found: most bytes are none.
        if text[at + DASHES[0]] != b'-' {
            at += 1;
        } else if is_uuid(&text[at..at + UUID]) {
            let head = text[at..].iter().take(8).fold(0, |head, digit| {
                head << 4 | char::from(*digit).to_digit(16).unwrap_or(0)
            });
            let head = format!("{:08x}", head ^ mask);
            text[at..at + 8].copy_from_slice(head.as_bytes());
            at += UUID;
        } else {
            at += 1;
        }
    }
}

/// Characters of a UUID, and where its dashes are.
const UUID: usize = 36;
const DASHES: [usize; 4] = [8, 13, 18, 23];

fn is_uuid(text: &[u8]) -> bool {
    text.len() == UUID
        && text.iter().enumerate().all(|(at, byte)| match *byte {
            b'-' => DASHES.contains(&at),
            other => other.is_ascii_hexdigit() && !DASHES.contains(&at),
        })
}

/// Takes `id` and `meta` out of a resource's text.
fn stored(json: &str) -> anyhow::Result<Stored> {
    let Members(members) = serde_json::from_str(json)?;
    let mut text = Vec::with_capacity(json.len());
    let (mut id, mut tags) = (None, Vec::new());
    for (name, value) in members {
        match name.as_str() {
            "id" => id = Some(serde_json::from_str::<Cow<'_, str>>(value.get())?.into_owned()),
            "meta" => tags = serde_json::from_str::<Meta>(value.get())?.tags(),
            _ => {
                text.push(if text.is_empty() { b'{' } else { b',' });
                text.extend(serde_json::to_vec(&name)?);
                text.push(b':');
                text.extend_from_slice(value.get().as_bytes());
            }
        }
    }
    text.push(b'}');
    Ok(Stored {
        id: id.context("a resource has no id")?.into_bytes(),
        text,
        tags,
    })
}

/// The members of an object, in their order.
struct Members<'j>(Vec<(String, &'j RawValue)>);

impl<'de: 'j, 'j> Deserialize<'de> for Members<'j> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a resource")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    profile: Vec<String>,
    #[serde(default)]
    security: Vec<Coding>,
    #[serde(default)]
    tag: Vec<Coding>,
}

#[derive(Deserialize)]
struct Coding {
    #[serde(default)]
    system: String,
    #[serde(default)]
    code: String,
    display: Option<String>,
}

impl Meta {
    fn tags(self) -> Vec<Tag> {
        let tag = |kind| {
            move |coding: Coding| Tag {
                kind,
                system: coding.system,
                code: coding.code,
                display: coding.display,
            }
        };
        let profile = |url| Tag {
            kind: 1,
            // HAPI's own constant.
            system: "https://github.com/hapifhir/hapi-fhir/ns/jpa/profile".to_owned(),
            code: url,
            display: None,
        };
        let profiles = self.profile.into_iter().map(profile);
        let security = self.security.into_iter().map(tag(2));
        self.tag
            .into_iter()
            .map(tag(0))
            .chain(profiles)
            .chain(security)
            .collect()
    }
}
