//! The checker without a database.

use view_store::sql::SqlLayer;

use super::*;
use crate::sql::{parser, tokens::Scanned};

fn known() -> Vec<KnownView> {
    ["patients", "conditions", "pg_mine", "Capital", "raw"]
        .map(|name| KnownView {
            name: name.into(),
            is_materialized: name != "raw",
        })
        .into()
}

fn checked_of(text: &str, layer: SqlLayer, parameters: usize) -> Checked<Found> {
    let scanned = Scanned::of(text)?;
    let tree = parser::parse(&scanned)?;
    check(&tree, &known(), layer, parameters)
}

fn checked(text: &str) -> Checked<Found> {
    checked_of(text, SqlLayer::Merged, 0)
}

fn views(text: &str) -> Vec<String> {
    let found = checked(text).unwrap_or_else(|fault| panic!("{text}: {fault:?}"));
    found.views.into_iter().collect()
}

#[test]
fn what_analysts_write_is_let_through() {
    for good in [
        "SELECT p.id, count(*) FILTER (WHERE c.code LIKE '4%') AS n FROM patients p LEFT JOIN conditions c ON c.patient_id = p.id \
         GROUP BY 1 HAVING count(*) > 1 ORDER BY n DESC NULLS LAST LIMIT 10 OFFSET 5",
        "WITH a AS (SELECT 1 AS x), b(y) AS MATERIALIZED (SELECT x FROM a) SELECT * FROM a JOIN b ON x = y",
        "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 9) SELECT sum(n) FROM t",
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n FROM t) SEARCH BREADTH FIRST BY n SET o CYCLE n SET c USING p SELECT * FROM t",
        "SELECT rank() OVER (PARTITION BY gender ORDER BY birth_date ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM patients WINDOW w AS (ORDER BY 1)",
        "SELECT * FROM patients p, LATERAL (SELECT * FROM conditions c WHERE c.patient_id = p.id LIMIT 1) x",
        "SELECT CASE WHEN a IS NULL THEN COALESCE(b, '') ELSE GREATEST(a, b) END FROM (VALUES ('a', 'b')) v(a, b)",
        "SELECT x::numeric(10,2), CAST(y AS timestamptz), interval '1 day', date '2026-01-01', (ARRAY[1,2])[1], z[1:2] FROM (SELECT 1, '2026-01-01', ARRAY[1]) t(x, y, z)",
        "SELECT EXTRACT(year FROM now()), now() AT TIME ZONE 'UTC', POSITION('a' IN 'ba'), SUBSTRING('abc' FROM 2), TRIM('a'), current_date",
        "SELECT * FROM patients WHERE id IN (SELECT patient_id FROM conditions) AND EXISTS (SELECT 1) AND id = ANY (ARRAY(SELECT 'x')) AND (1, 2) = (1, 2)",
        "SELECT gender, birth_date, count(*), GROUPING(gender) FROM patients GROUP BY GROUPING SETS ((gender), CUBE (gender, birth_date), ())",
        "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY n), string_agg(DISTINCT t, ',' ORDER BY t) FROM (SELECT 1 n, 'a' t) x",
        "SELECT * FROM json_to_recordset('[]') AS t(a integer, b text[]), ROWS FROM (generate_series(1, 2), unnest(ARRAY[1])) WITH ORDINALITY r",
        "(SELECT 1 UNION ALL SELECT 2) INTERSECT SELECT 1 EXCEPT VALUES (3) ORDER BY 1 FETCH FIRST 1 ROW WITH TIES",
        "TABLE patients",
        "SELECT j -> 'a' ->> 'b', j @> '{}'::jsonb, 'a' ~* 'b', 'a' NOT ILIKE 'b', 'a' SIMILAR TO 'b', x IS DISTINCT FROM y, NULLIF(1, 2) FROM (SELECT '{}'::jsonb j, 1 x, 2 y) t",
        "SELECT 1 WHERE 1 BETWEEN SYMMETRIC 2 AND 0 AND true IS NOT UNKNOWN AND NOT false OR 'a' COLLATE \"C\" < 'b'",
        "SELECT DISTINCT ON (id) * FROM sqlonfhir.patients CROSS JOIN sqlonfhir.freshness",
        "SELECT make_interval(days => 3), (ROW(1, 2)), (t.x).*, t.* FROM (SELECT ROW(1) x) t",
    ] {
        if let Err(fault) = checked(good) {
            panic!("{good}: {fault:?}");
        }
    }
}

#[test]
fn tables_of_a_with_are_known_where_postgresql_knows_them_and_nowhere_else() {
    assert_eq!(
        views("WITH patients AS (SELECT * FROM patients) SELECT * FROM patients"),
        ["patients"]
    );
    assert!(views("WITH patients AS (SELECT 1) SELECT * FROM patients").is_empty());
    assert_eq!(
        views("WITH a AS (SELECT * FROM conditions) SELECT (SELECT count(*) FROM a) FROM \"Capital\""),
        ["Capital", "conditions"]
    );
    for bad in [
        // Of another level, of a later place, of itself.
        "SELECT * FROM a, (WITH a AS (SELECT 1) SELECT * FROM a) x",
        "WITH b AS (SELECT * FROM a), a AS (SELECT 1) SELECT 1",
        "WITH a AS (SELECT * FROM a) SELECT * FROM a",
        "SELECT * FROM (WITH a AS (SELECT 1) SELECT 1) x UNION SELECT * FROM a",
        "WITH a AS (SELECT 1) SELECT * FROM sqlonfhir.a",
        "WITH pg_authid AS (SELECT 1) SELECT * FROM pg_authid",
    ] {
        assert!(checked(bad).is_err(), "{bad}");
    }
    assert!(checked("WITH RECURSIVE b AS (SELECT * FROM a), a AS (SELECT 1) SELECT * FROM b").is_ok());
}

#[test]
fn views_are_those_of_the_layer_that_is_asked() {
    let batch = |text| checked_of(text, SqlLayer::Batch, 0);
    assert!(batch("SELECT * FROM patients, sqlonfhir_batch.conditions, sqlonfhir.freshness").is_ok());
    assert!(batch("SELECT * FROM sqlonfhir.patients").is_err());
    assert!(checked("SELECT * FROM sqlonfhir_batch.patients").is_err());
    assert!(checked("SELECT * FROM sqlonfhir.errors").is_err());
    assert!(checked("SELECT * FROM freshness").is_err());
    let unknown = checked("SELECT *\nFROM patient").expect_err("unknown");
    assert_eq!(unknown.at, Some(14));
    assert!(
        unknown.rule.contains("Capital, ") || unknown.rule.contains("patients"),
        "{}",
        unknown.rule
    );
    assert!(
        checked("SELECT * FROM raw")
            .expect_err("no tables")
            .rule
            .contains("Query")
    );
    // PostgreSQL would look among its own tables first.
    assert!(checked("SELECT * FROM pg_mine").is_err());
    assert!(checked("SELECT * FROM sqlonfhir.pg_mine").is_ok());
}

#[test]
fn parameters_have_values_and_are_used() {
    let with = |text: &str, values| checked_of(text, SqlLayer::Merged, values);
    assert!(with("SELECT $1, $2, $1", 2).is_ok());
    assert_eq!(with("SELECT $2", 1).expect_err("none").at, Some(7));
    assert!(
        with("SELECT $2", 2)
            .expect_err("unused")
            .rule
            .contains("does not use $1")
    );
    assert!(with("SELECT $0", 1).is_err());
}

#[test]
fn names_that_could_call_a_function_are_left_to_the_database() {
    let found =
        checked("SELECT t.pg_sleep, (t).pg_ls_dir, t.upper FROM generate_series(1, 2) t").expect("SQL");
    let names: Vec<&str> = found.attributes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["pg_sleep", "pg_ls_dir"]);
    assert_eq!(found.attributes[0].1, 7);
}

#[test]
fn refusals_say_what_and_where_and_nothing_of_the_values() {
    for (text, at, what) in [
        (
            "SELECT 1, pg_sleep(9)",
            10,
            "the function pg_sleep is not allowed",
        ),
        ("SELECT pg_catalog.pg_read_file('/etc/Smith')", 7, "pg_read_file"),
        ("SELECT \"Smith\"('Smith')", 7, "this function is not allowed"),
        ("SELECT mine.f(1)", 7, "this function is not allowed"),
        ("SELECT 'Smith'::regclass", 16, "this type is not allowed"),
        ("SELECT 1 OPERATOR(pg_catalog.+) 2", 9, "OPERATOR"),
        ("SELECT 'Smith' @-@ 1", 15, "operator"),
        ("SELECT current_user", 7, "current_user"),
        ("SELECT xmin FROM patients", 7, "columns that PostgreSQL adds"),
        ("SELECT * FROM patients FOR UPDATE", 0, "FOR UPDATE"),
        ("SELECT 1 INTO t", 14, "SELECT INTO"),
        (
            "WITH a AS (DELETE FROM patients RETURNING 'Smith') SELECT 1",
            5,
            "only SELECT",
        ),
        ("SELECT * FROM patients TABLESAMPLE SYSTEM (1)", 35, "TABLESAMPLE"),
        ("SELECT xmlparse(document 'Smith')", 7, "XmlExpr"),
        ("SELECT 1 ORDER BY 1 USING <", 26, "USING"),
        ("SELECT 'x'::char(10000000)", 12, "length"),
        ("SELECT * FROM other.patients.x", 14, "database"),
    ] {
        let fault = checked(text).expect_err(text);
        assert!(fault.rule.contains(what), "{text}: {}", fault.rule);
        assert!(!fault.rule.contains("Smith"), "{text}: {}", fault.rule);
        if at > 0 {
            assert_eq!(fault.at, Some(at), "{text}");
        }
    }
}
