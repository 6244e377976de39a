//! What the contracts have, read from their descriptors: so that what is done around every call knows each one by name, a new one too.

use std::{collections::BTreeMap, sync::LazyLock};

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::FILE_DESCRIPTOR_SET;

/// A method of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// `package.Service/Method`
    pub name: String,
    /// Its caller sends as many messages as it likes, for as long as it likes.
    pub client_streaming: bool,
}

static METHODS: LazyLock<BTreeMap<String, Method>> = LazyLock::new(|| {
    // The build has written them: they can be read.
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default();
    let mut methods = BTreeMap::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let name = format!("{}.{}/{}", file.package(), service.name(), method.name());
                let client_streaming = method.client_streaming();
                methods.insert(
                    format!("/{name}"),
                    Method {
                        name,
                        client_streaming,
                    },
                );
            }
        }
    }
    methods
});

/// The method at a path of HTTP, `/package.Service/Method`.
pub fn method(path: &str) -> Option<&'static Method> {
    METHODS.get(path)
}

/// All of them, in the order of their names.
pub fn methods() -> impl Iterator<Item = &'static Method> {
    METHODS.values()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_found_by_their_paths() {
        let query = method("/researchflow.serving.v1.ServingService/Query").expect("it is there");
        assert_eq!(
            (query.name.as_str(), query.client_streaming),
            ("researchflow.serving.v1.ServingService/Query", false)
        );
        assert!(method("/researchflow.speed.v1.SpeedService/Changes").is_some_and(|m| m.client_streaming));
        assert_eq!(method("/researchflow.serving.v1.ServingService/Quary"), None);
    }
}
