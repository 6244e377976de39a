//! Settings of read replicas: `views.read_urls`, `views.max_replica_lag_seconds`, `sql.read_urls`.

use std::time::Duration;

use daemon::{Secret, config::Demands};
use serde::{Deserialize, Deserializer};
use view_store::sql::SqlSettings;

use crate::config::Config;

/// Replicas at most: each has connections, a watch and labels of its own.
const MAX_REPLICAS: usize = 16;

/// A list of URLs, or one text with blanks between them, as a variable of the environment has it (no URL holds a blank).
pub(crate) fn urls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Secret>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Urls {
        Text(String),
        List(Vec<Secret>),
    }
    Ok(match Urls::deserialize(deserializer)? {
        Urls::List(list) => list,
        Urls::Text(text) => text.split_whitespace().map(Secret::new).collect(),
    })
}

/// What is wrong with the settings of replicas. No message holds a URL.
pub(crate) fn check(config: &Config, demands: &mut Demands) {
    let (views, sql) = (&config.views, &config.sql);
    for (key, urls) in [("views", &views.read_urls), ("sql", &sql.read_urls)] {
        demands.demand(
            urls.len() <= MAX_REPLICAS,
            format!("{key}.read_urls: may hold {MAX_REPLICAS} at most: put a load balancer before more"),
        );
        for (i, url) in urls.iter().enumerate() {
            demands.demand(
                view_store::is_postgres_url(url.expose()),
                format!("{key}.read_urls, number {}: must be of the form postgres://user:password@host:port/database", i + 1),
            );
        }
    }
    demands.demand(
        sql.read_urls.is_empty() || sql.read_urls.len() == views.read_urls.len(),
        "sql.read_urls: must be empty, or name the servers of views.read_urls in the same order",
    );
    demands.demand(
        sql.read_urls.is_empty() || !sql.url.expose().is_empty(),
        "sql.read_urls: must be empty where sql.url is: statements then use views.read_urls",
    );
    demands.demand(
        views.max_replica_lag_seconds >= Duration::from_millis(1)
            && views.max_replica_lag_seconds <= Duration::from_hours(24),
        "views.max_replica_lag_seconds: must be 0.001 or more, and 86400 at most",
    );
}

/// How statements of callers connect to a replica; `None` where they are not read there.
pub(super) fn sql_settings(config: &Config, place: usize) -> Option<SqlSettings> {
    let sql = &config.sql;
    if !sql.enabled {
        return None;
    }
    // As at the primary: a login for views may do more than read, and takes on the role of a reader.
    let set_role = sql.url.expose().is_empty();
    let urls = if set_role {
        &config.views.read_urls
    } else {
        &sql.read_urls
    };
    Some(SqlSettings {
        url: urls.get(place)?.expose().to_owned(),
        set_role,
        max_connections: sql.max_connections,
        timeout: sql.timeout_seconds,
        max_bytes: sql.max_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DEFAULTS;

    fn load(file: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("overlay.toml");
        std::fs::write(&path, file).expect("written");
        daemon::config::load(DEFAULTS, Some(&path), "RF_SERVING_REPLICAS").map_err(|error| error.to_string())
    }

    #[test]
    fn urls_are_a_list_or_a_text_of_a_variable() {
        let two = ["postgres://u@a/db", "postgres://u:p@b:1/db"];
        for text in [
            format!("[views]\nread_urls = [\"{}\", \"{}\"]", two[0], two[1]),
            format!("[views]\nread_urls = \"{}  {} \"", two[0], two[1]),
        ] {
            let config = load(&text).expect("good");
            let read: Vec<&str> = config.views.read_urls.iter().map(Secret::expose).collect();
            assert_eq!(read, two);
            assert_eq!(
                sql_settings(&config, 1).map(|sql| (sql.url, sql.set_role)),
                Some((two[1].to_owned(), true))
            );
        }
        assert!(load("").expect("the sample").views.read_urls.is_empty());
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_its_place_and_without_the_url() {
        for (bad, key) in [
            (
                "[views]\nread_urls = [\"postgres://u@h/db\", \"mysql://u:s3cret@h/db\"]",
                "views.read_urls, number 2",
            ),
            (
                "[views]\nmax_replica_lag_seconds = 0",
                "views.max_replica_lag_seconds",
            ),
            (
                "[sql]\nurl = \"postgres://r@h/db\"\nread_urls = [\"postgres://r:s3cret@i/db\"]",
                "sql.read_urls: must be empty, or name",
            ),
            (
                "[views]\nread_urls = [\"postgres://u@h/db\"]\n[sql]\nread_urls = [\"postgres://r:s3cret@i/db\"]",
                "where sql.url is",
            ),
        ] {
            let error = load(bad).expect_err("refused");
            assert!(error.contains(key) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn statements_of_a_login_of_their_own_are_read_where_that_login_can_be() {
        let own = "[views]\nread_urls = [\"postgres://u@h/db\"]\n[sql]\nurl = \"postgres://r@p/db\"\n";
        assert!(sql_settings(&load(own).expect("good"), 0).is_none());
        let both = format!("{own}read_urls = [\"postgres://r@h/db\"]");
        let settings = sql_settings(&load(&both).expect("good"), 0).expect("read there");
        assert_eq!(
            (settings.url.as_str(), settings.set_role),
            ("postgres://r@h/db", false)
        );
    }
}
