//! Hostile texts that are deep, long or wide.

/// Deep, long and wide texts that are over a bound of the statement itself.
pub(crate) fn generated_refused() -> Vec<String> {
    let many = |text: &str, n: usize| text.repeat(n);
    vec![
        format!("SELECT {}1{}", many("(", 5_000), many(")", 5_000)),
        format!("SELECT {}1", many("(", 30_000)),
        format!("SELECT 1{}", many("+1", 4_000)),
        format!("SELECT 1{}", many("+1", 30_000)),
        format!("SELECT {}x", many("- ", 9_000)),
        format!("SELECT {}true", many("NOT ", 9_000)),
        format!("SELECT 1{}", many("::int", 4_000)),
        format!("SELECT x{}", many("[1]", 3_000)),
        format!("SELECT {}1{}", many("ARRAY[", 90), many("]", 90)),
        format!("{}SELECT 1{}", many("SELECT * FROM (", 90), many(") x", 90)),
        format!("{}SELECT 1{}", many("WITH a AS (", 90), many(") SELECT 1", 90)),
        format!(
            "SELECT {}1{}",
            many("CASE WHEN true THEN ", 900),
            many(" END", 900)
        ),
        format!("SELECT 1{}", many(" UNION SELECT 1", 900)),
        format!("SELECT {}", many("f(", 90)),
        format!("SELECT '{}'", many("x", 70_000)),
        format!("SELECT 1 /* {} */", many("/*", 5_000)),
        format!("SELECT {}1", many("/* */ ", 20_000)),
        format!("SELECT {}", many("$", 20_000)),
        format!("SELECT {}", many("'", 20_001)),
        format!("{}", many(";", 20_000)),
        format!("SELECT 1{}", many(", 1", 20_000)),
        format!("SELECT \"{}\"", many("x", 9_000)),
        format!("SELECT * FROM {}", many("a.", 900)),
        format!("SELECT a{} FROM conditions", many(".a", 900)),
    ]
}

/// As large as is allowed: answered, or within a bound of PostgreSQL.
pub(crate) fn generated_harmless() -> Vec<String> {
    let list = |n: usize, of: &dyn Fn(usize) -> String| (0..n).map(of).collect::<Vec<_>>().join(", ");
    vec![
        format!("SELECT {}", list(4_000, &|n| n.to_string())),
        format!(
            "SELECT id FROM conditions WHERE code IN ({})",
            list(4_000, &|n| format!("'{n}'"))
        ),
        format!("VALUES {}", list(1_500, &|n| format!("({n})"))),
        format!("SELECT '{}'", "Ł".repeat(20_000)),
        format!("SELECT 1 WHERE {}", vec!["true"; 4_000].join(" AND ")),
        format!(
            "SELECT count(*) FROM {}",
            list(150, &|n| format!("conditions c{n}"))
        ),
        format!("SELECT 1 GROUP BY CUBE ({})", list(12, &|n| n.to_string())),
        format!(
            "WITH {} SELECT 1",
            list(300, &|n| format!("c{n} AS (SELECT {n})"))
        ),
        format!(
            "SELECT {}",
            list(40, &|_| "(SELECT max(label) FROM conditions)".into())
        ),
        format!("SELECT {}1{}", "(".repeat(99), ")".repeat(99)),
    ]
}
