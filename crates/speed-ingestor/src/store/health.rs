//! How Redis is: whether its settings can lose what was acknowledged, how full it is.

use redis::InfoDict;

use super::{DEAD, SpeedStore, StoreError, TypeKey};

/// The oldest Redis that has all that the scripts use.
const OLDEST_MAJOR: u32 = 6;

/// What Redis says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedisHealth {
    /// `redis_version`
    pub version: String,
    /// Whether an append-only file is written.
    pub appendonly: bool,
    /// `maxmemory-policy`
    pub maxmemory_policy: String,
    /// Bytes used.
    pub used_memory: u64,
    /// Bytes allowed; 0: no limit.
    pub maxmemory: u64,
    /// Dead letters kept.
    pub dead_letters: u64,
    /// Settings that can lose acknowledged data: what to set.
    pub volatile: Vec<String>,
    /// What is worth knowing besides.
    pub warnings: Vec<String>,
}

/// How much of a type is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TypeCounts {
    /// Readings that the batch has not covered.
    pub held: u64,
    /// Readings that it has covered, not yet expired.
    pub covered: u64,
    /// Previews waiting.
    pub previews: u64,
}

impl RedisHealth {
    /// Whether more than nine tenths of the memory allowed are used.
    pub fn is_short(&self) -> bool {
        self.is_above(90)
    }

    /// Whether it has `WAITAOF`.
    fn can_wait_for_disk(&self) -> bool {
        let mut numbers = self
            .version
            .split('.')
            .map(|number| number.parse::<u32>().unwrap_or(0));
        (numbers.next(), numbers.next()) >= (Some(7), Some(2))
    }

    /// Whether what is left is to be kept for readings.
    pub fn is_nearly_full(&self) -> bool {
        self.is_above(NEARLY_FULL_PERCENT)
    }

    fn is_above(&self, percent: u64) -> bool {
        self.maxmemory > 0 && self.used_memory.saturating_mul(100) > self.maxmemory.saturating_mul(percent)
    }
}

/// Of a hundred bytes allowed, so many may be used before previews are no longer taken.
const NEARLY_FULL_PERCENT: u64 = 95;

impl SpeedStore {
    /// Refuses settings that can lose what was acknowledged, unless `allow_volatile`; and a Redis that cannot do what it is asked to.
    pub async fn check(&self, allow_volatile: bool) -> Result<RedisHealth, StoreError> {
        let health = self.health().await?;
        if self.settings.wait_for_disk && !health.can_wait_for_disk() {
            return Err(StoreError::CannotWait(health.version));
        }
        if health.volatile.is_empty() || allow_volatile {
            Ok(health)
        } else {
            Err(StoreError::Volatile(health.volatile))
        }
    }

    /// What Redis says of itself.
    pub async fn health(&self) -> Result<RedisHealth, StoreError> {
        let (info, dead_letters): (InfoDict, u64) = redis::pipe()
            .cmd("INFO")
            .cmd("XLEN")
            .arg(self.key(DEAD))
            .query_async(&mut self.reads.clone())
            .await?;
        Ok(judge(&info, dead_letters))
    }

    /// How much of a type is held.
    pub async fn counts(&self, resource_type: &str) -> Result<TypeCounts, StoreError> {
        let (held, covered, previews) = redis::pipe()
            .zcard(self.type_key(TypeKey::Held, resource_type))
            .zcard(self.type_key(TypeKey::Covered, resource_type))
            .llen(self.type_key(TypeKey::Previews, resource_type))
            .query_async(&mut self.reads.clone())
            .await?;
        Ok(TypeCounts {
            held,
            covered,
            previews,
        })
    }
}

fn judge(info: &InfoDict, dead_letters: u64) -> RedisHealth {
    let mut health = RedisHealth {
        version: info.get("redis_version").unwrap_or_default(),
        appendonly: info.get::<u8>("aof_enabled") == Some(1),
        maxmemory_policy: info.get("maxmemory_policy").unwrap_or_default(),
        used_memory: info.get("used_memory").unwrap_or_default(),
        maxmemory: info.get("maxmemory").unwrap_or_default(),
        dead_letters,
        ..RedisHealth::default()
    };
    if !health.appendonly {
        health
            .volatile
            .push("set appendonly yes (a restart forgets what only memory holds)".into());
    }
    if health.maxmemory_policy != "noeviction" {
        let found = &health.maxmemory_policy;
        health.volatile.push(format!("set maxmemory-policy noeviction (it is {found:?}: readings that the batch has not covered may be evicted)"));
    }
    let major = health
        .version
        .split('.')
        .next()
        .and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_MAJOR) {
        health.warnings.push(format!(
            "redis {} is older than {OLDEST_MAJOR}.0, the oldest that is known to work",
            health.version
        ));
    }
    if info
        .get::<String>("aof_last_write_status")
        .is_some_and(|status| status != "ok")
    {
        health
            .warnings
            .push("the last write of the append-only file failed".into());
    }
    if health.maxmemory == 0 {
        health
            .warnings
            .push("maxmemory is not set: the machine's memory is the limit".into());
    } else if health.is_short() {
        health
            .warnings
            .push("more than nine tenths of maxmemory are used".into());
    }
    health
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(appendonly: u8, policy: &str) -> InfoDict {
        InfoDict::new(&format!(
            "redis_version:7.0.15\r\naof_enabled:{appendonly}\r\nmaxmemory_policy:{policy}\r\nmaxmemory:100\r\nused_memory:95\r\n"
        ))
    }

    #[test]
    fn settings_that_lose_acknowledged_data_say_what_to_set() {
        assert_eq!(judge(&info(1, "noeviction"), 0).volatile, Vec::<String>::new());
        let volatile = judge(&info(0, "allkeys-lru"), 0).volatile;
        assert!(
            volatile[0].contains("appendonly yes") && volatile[1].contains("noeviction"),
            "{volatile:?}"
        );
    }

    #[test]
    fn only_a_redis_of_7_2_can_wait_for_its_disk() {
        for (version, can) in [
            ("7.2.0", true),
            ("8.0.1", true),
            ("10.0", true),
            ("7.0.15", false),
            ("6.2", false),
            ("", false),
        ] {
            let health = RedisHealth {
                version: version.to_owned(),
                ..RedisHealth::default()
            };
            assert_eq!(health.can_wait_for_disk(), can, "{version}");
        }
    }

    #[test]
    fn a_nearly_full_redis_is_a_warning() {
        assert!(
            judge(&info(1, "noeviction"), 0)
                .warnings
                .iter()
                .any(|warning| warning.contains("nine tenths"))
        );
    }
}
