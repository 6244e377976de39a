//! Texts that nobody should be able to run: writes, reads of what is no view, waits, floods, and tricks to hide them.

/// What is to come of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Refused before PostgreSQL sees it, or by PostgreSQL as wrong SQL: the caller's fault.
    Refused,
    /// It may be answered, or meet a bound; it does no harm.
    Harmless,
}

/// Where the texts would write, if they could.
pub(crate) const FILE: &str = "/tmp/researchflow-hostile-file";

/// All texts, each with what is to come of it.
pub(crate) fn texts() -> Vec<(Fate, String)> {
    let refused = [
        STACKED,
        WRITES,
        DEFINITIONS,
        SESSIONS,
        COPIES,
        WITH_CHANGES,
        FILES,
        WAITS,
        SETTINGS,
        CATALOG,
        CASTS,
        HIDDEN_CALLS,
        OPERATORS,
        LOCKS,
        SHADOWS,
        LEXICAL,
        XML,
    ];
    let refused = refused
        .concat()
        .into_iter()
        .map(|text| (Fate::Refused, text.replace("FILE", FILE)));
    let generated = generated_refused().into_iter().map(|text| (Fate::Refused, text));
    let harmless = HARMLESS.iter().map(|text| (Fate::Harmless, (*text).to_owned()));
    let floods = generated_harmless()
        .into_iter()
        .map(|text| (Fate::Harmless, text));
    refused.chain(generated).chain(harmless).chain(floods).collect()
}

const STACKED: &[&str] = &[
    "SELECT 1; DROP TABLE sqlonfhir_base.conditions",
    "SELECT 1;DELETE FROM sqlonfhir_live.conditions;",
    "SELECT 1; SELECT 2",
    ";DROP VIEW sqlonfhir.conditions",
    "SELECT 1 /* ; */ ; /* */ TRUNCATE sqlonfhir_base.conditions",
    "SELECT ';'; COMMIT; DROP SCHEMA sqlonfhir CASCADE",
    "SELECT $$a$$; SELECT pg_sleep(60)",
    "SELECT 1) answer; DROP VIEW sqlonfhir.conditions; --",
    "SELECT 1) AS answer LIMIT 1; DELETE FROM sqlonfhir_base.conditions --",
    "(SELECT 1); VACUUM",
    "TABLE conditions; RESET ROLE",
    "BEGIN; SELECT 1",
];

const WRITES: &[&str] = &[
    "INSERT INTO sqlonfhir_base.conditions (_rid, _version, _updated, _row) VALUES ('x', 1, now(), 0)",
    "INSERT INTO conditions DEFAULT VALUES",
    "UPDATE sqlonfhir_base.conditions SET code = 'x'",
    "UPDATE sqlonfhir_meta.resource_type SET speed_n = 0",
    "DELETE FROM sqlonfhir_base.conditions",
    "DELETE FROM sqlonfhir_meta.ledger RETURNING *",
    "TRUNCATE sqlonfhir_base.conditions",
    "MERGE INTO sqlonfhir_base.conditions b USING conditions c ON false WHEN NOT MATCHED THEN INSERT (_rid) VALUES ('x')",
    "SELECT * INTO stolen FROM conditions",
    "SELECT 1 INTO TEMP t",
    "SELECT 1 INTO UNLOGGED sqlonfhir.t",
    "CREATE TABLE AS SELECT 1",
    "CREATE TABLE sqlonfhir.t AS SELECT * FROM conditions",
    "CREATE TEMP TABLE t AS SELECT 1",
    "REFRESH MATERIALIZED VIEW x",
    "DO $$ BEGIN DELETE FROM sqlonfhir_base.conditions; END $$",
    "DO LANGUAGE plpgsql 'BEGIN PERFORM pg_sleep(60); END'",
    "CALL sqlonfhir.f()",
    "EXPLAIN ANALYZE DELETE FROM sqlonfhir_base.conditions",
    "EXPLAIN SELECT 1",
    "PREPARE p AS DELETE FROM sqlonfhir_base.conditions",
    "EXECUTE p",
    "DECLARE c CURSOR FOR SELECT 1",
    "FETCH ALL FROM c",
    "SELECT lo_create(4711)",
    "SELECT lo_from_bytea(4711, 'x')",
    "SELECT lo_put(4711, 0, 'x')",
    "SELECT lo_unlink(4711)",
    "SELECT nextval('s')",
    "SELECT setval('s', 1)",
    "SELECT pg_logical_emit_message(false, 'a', 'b')",
];

const DEFINITIONS: &[&str] = &[
    "DROP TABLE sqlonfhir_base.conditions",
    "DROP VIEW sqlonfhir.conditions CASCADE",
    "DROP SCHEMA sqlonfhir_meta CASCADE",
    "DROP DATABASE postgres",
    "DROP OWNED BY CURRENT_USER",
    "CREATE VIEW sqlonfhir.v AS SELECT 1",
    "CREATE OR REPLACE VIEW sqlonfhir.conditions AS SELECT 1",
    "CREATE TABLE public.t (a int)",
    "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE EXTENSION dblink",
    "CREATE ROLE evil SUPERUSER",
    "CREATE TRIGGER t BEFORE INSERT ON conditions EXECUTE FUNCTION f()",
    "CREATE RULE r AS ON SELECT TO conditions DO INSTEAD DELETE FROM sqlonfhir_base.conditions",
    "CREATE SERVER s FOREIGN DATA WRAPPER w",
    "CREATE INDEX ON sqlonfhir_base.conditions (code)",
    "ALTER TABLE sqlonfhir_base.conditions DROP COLUMN code",
    "ALTER ROLE researchflow_reader SUPERUSER",
    "ALTER VIEW sqlonfhir.conditions OWNER TO CURRENT_USER",
    "ALTER DATABASE postgres SET statement_timeout = 0",
    "GRANT researchflow_merger TO researchflow_reader",
    "GRANT ALL ON SCHEMA sqlonfhir TO PUBLIC",
    "REVOKE SELECT ON sqlonfhir.conditions FROM researchflow_reader",
    "REASSIGN OWNED BY postgres TO CURRENT_USER",
    "COMMENT ON VIEW sqlonfhir.conditions IS 'x'",
    "SECURITY LABEL ON ROLE postgres IS 'x'",
    "IMPORT FOREIGN SCHEMA s FROM SERVER x INTO y",
];

const SESSIONS: &[&str] = &[
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "SET ROLE postgres",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION postgres",
    "SET statement_timeout = 0",
    "SET LOCAL search_path = pg_catalog",
    "SET TRANSACTION READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "RESET ALL",
    "SHOW data_directory",
    "DISCARD ALL",
    "LISTEN x",
    "NOTIFY x",
    "LOAD 'auto_explain'",
    "ALTER SYSTEM SET statement_timeout = 0",
    "CHECKPOINT",
    "VACUUM FULL",
    "ANALYZE",
    "CLUSTER",
    "REINDEX DATABASE postgres",
    "LOCK TABLE sqlonfhir.conditions IN ACCESS EXCLUSIVE MODE",
];

const COPIES: &[&str] = &[
    "COPY sqlonfhir.conditions TO 'FILE'",
    "COPY (SELECT 1) TO 'FILE'",
    "COPY (SELECT 1) TO PROGRAM 'touch FILE'",
    "COPY sqlonfhir_base.conditions FROM '/etc/passwd'",
    "COPY sqlonfhir_base.conditions FROM PROGRAM 'cat /etc/passwd'",
    "COPY (DELETE FROM sqlonfhir_base.conditions RETURNING *) TO STDOUT",
];

const WITH_CHANGES: &[&str] = &[
    "WITH d AS (DELETE FROM sqlonfhir_base.conditions RETURNING *) SELECT * FROM d",
    "WITH d AS (UPDATE sqlonfhir_base.conditions SET code = 'x' RETURNING 1) SELECT 1",
    "WITH d AS (INSERT INTO sqlonfhir_meta.ledger SELECT FROM conditions RETURNING 1) TABLE d",
    "WITH a AS (SELECT 1), d AS (DELETE FROM sqlonfhir_live.conditions) SELECT * FROM a",
    "WITH a AS (SELECT 1) DELETE FROM sqlonfhir_base.conditions USING a",
    "WITH a AS (SELECT 1) INSERT INTO sqlonfhir_base.conditions SELECT * FROM a",
    "SELECT * FROM (WITH d AS (DELETE FROM sqlonfhir_base.conditions RETURNING 1) SELECT * FROM d) x",
    "SELECT (WITH d AS (DELETE FROM sqlonfhir_base.conditions RETURNING 1) SELECT count(*) FROM d)",
    "WITH RECURSIVE r AS (SELECT 1 UNION ALL (WITH d AS (DELETE FROM sqlonfhir_base.conditions RETURNING 1) SELECT 1)) SELECT 1",
    "WITH a AS (MERGE INTO sqlonfhir_base.conditions b USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE) SELECT 1",
];

const FILES: &[&str] = &[
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT pg_read_binary_file('postgresql.conf')",
    "SELECT pg_ls_dir('/')",
    "SELECT * FROM pg_ls_dir('/') AS t",
    "SELECT * FROM pg_ls_logdir()",
    "SELECT pg_stat_file('/etc/passwd')",
    "SELECT lo_import('/etc/passwd')",
    "SELECT lo_export(1, 'FILE')",
    "SELECT lo_get(1)",
    "SELECT pg_file_write('FILE', 'x', false)",
    "SELECT * FROM dblink('dbname=postgres', 'DELETE FROM x') AS t(a int)",
    "SELECT dblink_exec('dbname=postgres', 'DROP TABLE x')",
    "SELECT * FROM pg_read_file('/etc/passwd') WITH ORDINALITY",
    "SELECT * FROM ROWS FROM (generate_series(1, 2), pg_ls_dir('/')) t",
    "SELECT pg_current_logfile()",
    "SELECT pg_export_snapshot()",
];

const WAITS: &[&str] = &[
    "SELECT pg_sleep(60)",
    "SELECT pg_catalog.pg_sleep(60)",
    "SELECT \"pg_sleep\"(60)",
    "SELECT U&\"pg\\005fsleep\"(60)",
    "SELECT PG_SLEEP(60)",
    "SELECT pg_sleep /* */ (60)",
    "SELECT pg_sleep_for('1 minute')",
    "SELECT pg_sleep_until('2100-01-01')",
    "SELECT 1 FROM conditions WHERE pg_sleep(60) IS NULL",
    "SELECT 1 ORDER BY pg_sleep(60)",
    "SELECT 1 GROUP BY pg_sleep(60)",
    "SELECT 1 LIMIT (SELECT 1 FROM pg_sleep(60))",
    "SELECT count(*) FILTER (WHERE pg_sleep(60) IS NULL) FROM conditions",
    "SELECT sum(1) OVER (PARTITION BY pg_sleep(60)) FROM conditions",
    "SELECT sum(1) OVER w FROM conditions WINDOW w AS (ORDER BY pg_sleep(60))",
    "SELECT string_agg(label, ',' ORDER BY pg_sleep(60)) FROM conditions",
    "SELECT CASE WHEN pg_sleep(60) IS NULL THEN 1 END",
    "SELECT COALESCE(NULL, (SELECT pg_sleep(60)))",
    "SELECT ARRAY[pg_sleep(60)]",
    "SELECT ROW(pg_sleep(60))",
    "SELECT (ARRAY[1])[(SELECT 1 FROM pg_sleep(60))]",
    "VALUES (pg_sleep(60))",
    "SELECT * FROM conditions JOIN LATERAL pg_sleep(60) ON true",
    "SELECT DISTINCT ON (pg_sleep(60)) 1",
    "SELECT make_interval(days => (SELECT 1 FROM pg_sleep(60)))",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_advisory_lock_shared(1, 2)",
    "SELECT pg_try_advisory_lock(1)",
    "SELECT pg_advisory_xact_lock(1)",
    "SELECT pg_cancel_backend(pg_backend_pid())",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_notify('a', 'b')",
    "SELECT pg_listening_channels()",
    "SELECT pg_switch_wal()",
    "SELECT pg_reload_conf()",
    "SELECT pg_rotate_logfile()",
    "SELECT pg_stat_reset()",
    "SELECT txid_current()",
];

const SETTINGS: &[&str] = &[
    "SELECT set_config('statement_timeout', '0', false)",
    "SELECT set_config('role', 'none', true), query_to_xml('DELETE FROM sqlonfhir_base.conditions', true, true, '')",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT current_setting('data_directory')",
    "SELECT current_setting('config_file', true)",
    "SELECT pg_show_all_settings()",
    "SELECT * FROM pg_settings",
    "SELECT setseed(0.5)",
    "SELECT current_user",
    "SELECT session_user",
    "SELECT user",
    "SELECT current_role",
    "SELECT current_catalog",
    "SELECT current_schema",
    "SELECT current_schemas(true)",
    "SELECT current_database()",
    "SELECT version()",
    "SELECT inet_server_addr()",
    "SELECT pg_postmaster_start_time()",
    "SELECT pg_backend_pid()",
    "SELECT pg_conf_load_time()",
];

const CATALOG: &[&str] = &[
    "SELECT * FROM pg_catalog.pg_authid",
    "SELECT * FROM pg_shadow",
    "SELECT rolname FROM pg_roles",
    "SELECT * FROM pg_stat_activity",
    "SELECT query FROM pg_catalog.pg_stat_activity a",
    "SELECT * FROM information_schema.tables",
    "TABLE pg_class",
    "SELECT * FROM pg_proc p, conditions c",
    "SELECT * FROM conditions WHERE id IN (SELECT relname FROM pg_class)",
    "SELECT * FROM sqlonfhir_base.conditions",
    "SELECT * FROM sqlonfhir_live.conditions",
    "SELECT * FROM sqlonfhir_meta.ledger",
    "SELECT * FROM sqlonfhir_meta.view",
    "SELECT * FROM sqlonfhir.errors",
    "SELECT * FROM sqlonfhir_stage.x",
    "SELECT * FROM postgres.pg_catalog.pg_class",
    "SELECT * FROM public.conditions",
    "SELECT sqlonfhir_meta.live_rows('conditions')",
    "SELECT _rid FROM conditions",
    "SELECT ctid FROM conditions",
    "SELECT c.tableoid FROM conditions c",
    "SELECT xmin, cmax FROM conditions",
    "SELECT pg_get_viewdef('conditions')",
    "SELECT obj_description(1)",
    "SELECT has_table_privilege('conditions', 'SELECT')",
    "SELECT to_regclass('pg_authid')",
    "SELECT pg_typeof(1)",
    "SELECT pg_relation_size('conditions')",
    "SELECT pg_total_relation_size('pg_authid')",
    "SELECT format_type(23, 0)",
    "SELECT col_description(1, 1)",
    "SELECT pg_describe_object(1, 1, 0)",
    "SELECT * FROM pg_get_keywords()",
    "SELECT * FROM pg_timezone_names",
    "SELECT pg_stat_get_activity(NULL)",
    "SELECT COLLATION FOR ('a')",
    "SELECT ts_stat('SELECT 1')",
    "SELECT cursor_to_xml('c', 1, true, true, '')",
];

const CASTS: &[&str] = &[
    "SELECT 'pg_authid'::regclass",
    "SELECT 'pg_authid'::regclass::oid",
    "SELECT CAST('pg_sleep' AS regproc)",
    "SELECT regclass 'pg_authid'",
    "SELECT 'postgres'::regrole",
    "SELECT 'x'::pg_catalog.regnamespace",
    "SELECT 'x'::conditions",
    "SELECT NULL::sqlonfhir.conditions",
    "SELECT 'x'::sqlonfhir_base.conditions",
    "SELECT 1::oid",
    "SELECT 'x'::name",
    "SELECT 'x'::xml",
    "SELECT 'a'::cstring",
    "SELECT 'x'::char(10000000)",
    "SELECT * FROM json_to_record('{}') AS t(a regclass)",
    "SELECT * FROM json_to_recordset('[]') AS t(a sqlonfhir_base.conditions)",
    "SELECT 1::conditions.id%TYPE",
    "SELECT 'a'::pg_authid[]",
    "SELECT json_populate_record(NULL::conditions, '{}')",
];

/// A name after a dot that is no column is a function to PostgreSQL.
const HIDDEN_CALLS: &[&str] = &[
    "SELECT t.pg_sleep FROM generate_series(60, 61) t",
    "SELECT (60::float8).pg_sleep",
    "SELECT (t).pg_sleep FROM generate_series(60.0::float8, 61) t",
    "SELECT t.pg_ls_dir FROM unnest(ARRAY['/']) t",
    "SELECT ('/etc/passwd'::text).pg_read_file",
    "SELECT t.pg_read_file FROM unnest(ARRAY['/etc/passwd']) t",
    "SELECT t.\"pg_sleep\" FROM generate_series(60.0::float8, 61) t",
    "SELECT t.pg_advisory_lock FROM generate_series(1::bigint, 2) t",
    "SELECT t.query_to_xml FROM unnest(ARRAY['SELECT 1']) t",
    "SELECT 1 FROM generate_series(60.0::float8, 61) t ORDER BY t.pg_sleep",
    "SELECT t.lo_unlink FROM generate_series(1, 2) t",
    "SELECT t.current_setting FROM unnest(ARRAY['data_directory']) t",
    "SELECT (SELECT t.pg_notify) FROM unnest(ARRAY['a']) t",
    "SELECT pg_sleep(t) FROM generate_series(60.0::float8, 61) t",
];

const OPERATORS: &[&str] = &[
    "SELECT 1 OPERATOR(pg_catalog.+) 2",
    "SELECT 1 OPERATOR(evil.+) 2",
    "SELECT @-@ '((0,0),(1,1))'::path",
    "SELECT 'a' <-> 'b'",
    "SELECT 1 ORDER BY 1 USING OPERATOR(pg_catalog.<)",
    "SELECT 1 ORDER BY 1 USING <",
    "SELECT 1 = ANY (SELECT pg_sleep(60)::text::int)",
    "SELECT 1 OPERATOR(pg_catalog.=) ANY (ARRAY[1])",
    "SELECT 'a' COLLATE pg_catalog.\"C\"",
    "SELECT !! 'a'::tsquery",
];

const LOCKS: &[&str] = &[
    "SELECT * FROM conditions FOR UPDATE",
    "SELECT * FROM conditions FOR NO KEY UPDATE SKIP LOCKED",
    "SELECT * FROM conditions FOR SHARE NOWAIT",
    "SELECT * FROM (SELECT * FROM conditions FOR KEY SHARE) x",
    "WITH a AS (SELECT * FROM conditions FOR UPDATE) SELECT * FROM a",
    "SELECT * FROM conditions TABLESAMPLE SYSTEM (10)",
    "SELECT * FROM conditions TABLESAMPLE BERNOULLI (pg_sleep(60))",
];

/// Names that stand for something else than they seem to.
const SHADOWS: &[&str] = &[
    "SELECT * FROM pg_authid, (WITH pg_authid AS (SELECT 1) SELECT 1) x",
    "SELECT * FROM (WITH a AS (SELECT 1) SELECT 1) x, a",
    "WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a",
    "WITH pg_roles AS (SELECT 1) SELECT * FROM pg_roles",
    "WITH ledger AS (SELECT 1) SELECT * FROM sqlonfhir_meta.ledger",
    "SELECT * FROM \"Conditions\"",
    "SELECT * FROM \"sqlonfhir.conditions\"",
    "SELECT * FROM \"sqlonfhir_meta\".\"ledger\"",
    "SELECT * FROM SQLONFHIR_META.LEDGER",
    "SELECT conditions FROM pg_class conditions",
    "SELECT * FROM \"pg_catalog\" . \"pg_class\"",
    "SELECT * FROM U&\"pg\\005fclass\"",
    "SELECT * FROM U&\"\\0070g_class\" UESCAPE '\\'",
    "SELECT * FROM pg_temp.conditions",
    "SELECT * FROM ONLY pg_class",
    "SELECT * FROM pg_class *",
    "SELECT * FROM (pg_class CROSS JOIN conditions)",
    "SELECT * FROM conditions NATURAL JOIN pg_class",
    "SELECT * FROM conditions UNION ALL SELECT * FROM pg_class",
    "SELECT EXISTS (TABLE pg_authid)",
    "SELECT ARRAY(TABLE pg_authid)",
    "SELECT (SELECT rolpassword FROM pg_authid LIMIT 1)",
];

const LEXICAL: &[&str] = &[
    "",
    " \n\t",
    "--",
    "/* SELECT 1 */",
    "/* /* nested */ SELECT 1",
    "SELECT 'unterminated",
    "SELECT E'\\'; DROP TABLE x; --",
    "SELECT \"unterminated",
    "SELECT $tag$unterminated$tah$",
    "SELECT 1; -- comment\n SELECT 2",
    "SEL\0ECT 1",
    "SELECT\u{a0}1",
    "ЅELECT 1",
    "SELECT 1 FROM conditions；DROP TABLE x",
    "SELECT \u{202e}1 + \u{202d}",
    "SELECT 'a' UESCAPE 'x'",
    "SELECT E'\\u0000'",
    "SELECT U&'\\0000'",
    "SELECT U&'\\D83D'",
    "SELECT 0x",
    "SELECT 1a",
    "SELECT $1a",
    "SELECT $99999999999999",
    "SELECT $1",
    "SELECT :name",
    "SELECT ?",
    "\\copy conditions to x",
    "\\! touch FILE",
    "SELECT 1 \\; DROP TABLE x",
    "{{7*7}}",
    "' OR '1'='1",
    "1; DROP TABLE conditions",
    "conditions",
    "SELECT * FROM conditions WHERE",
    "SELECT SELECT SELECT",
    "SELECT 1 LIMIT 1, 2",
    "SELECT 1 LIMIT 1 LIMIT 2",
    "SELECT '\\' || current_user || '",
    "\u{feff}SELECT pg_sleep(60)",
];

const XML: &[&str] = &[
    "SELECT query_to_xml('SELECT * FROM pg_authid', true, true, '')",
    "SELECT table_to_xml('pg_authid', true, true, '')",
    "SELECT schema_to_xml('sqlonfhir_meta', true, true, '')",
    "SELECT database_to_xml(true, true, '')",
    "SELECT xmlparse(DOCUMENT '<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>')",
    "SELECT xmlelement(name a)",
    "SELECT xpath('/a', '<a/>')",
    "SELECT * FROM xmltable('/a' PASSING '<a/>' COLUMNS b int)",
    "SELECT xmlserialize(CONTENT '<a/>' AS text)",
    "SELECT * FROM json_table('[]', '$' COLUMNS (a int))",
    "SELECT json_object('a': pg_sleep(60))",
    "SELECT repeat('x', 1000000000)",
    "SELECT lpad('x', 1000000000)",
    // PostgreSQL does not look at the time while it fills up.
    "SELECT format('%100000000s', 'x')",
];

/// These are SQL that is let through, or may be: they compute, and meet a bound where they compute for too long.
const HARMLESS: &[&str] = &[
    "SELECT id FROM conditions WHERE code = '' OR '1' = '1' --'",
    "SELECT '''; DROP TABLE x; --', $$; DELETE FROM y$$",
    "SELECT id AS \"; DROP TABLE x\" FROM conditions",
    "WITH conditions AS (SELECT 1 AS id) SELECT * FROM conditions",
    "SELECT \"conditions\".\"id\" FROM \"sqlonfhir\".\"conditions\"",
    "SELECT /* pg_sleep(60) */ 1 -- ; DROP TABLE x",
    "SELECT count(*) FROM generate_series(1, 1000000000000)",
    "SELECT n FROM generate_series(1, 1000000000000) n ORDER BY random()",
    "SELECT count(*) FROM conditions a, conditions b, conditions c, conditions d, conditions e, conditions f, conditions g, \
     conditions h, conditions i, conditions j, conditions k, conditions l, conditions m, conditions n, conditions o, conditions p",
    "WITH RECURSIVE t AS (SELECT 1 UNION ALL SELECT 1 FROM t) SELECT count(*) FROM t",
    "WITH RECURSIVE t(x) AS (SELECT 'xxxxxxxx' UNION ALL SELECT x || x FROM t) SELECT max(length(x)) FROM t",
    "WITH RECURSIVE t AS (SELECT 1 AS a UNION ALL SELECT a FROM t) CYCLE a SET c USING p SELECT * FROM t",
    "SELECT regexp_match('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!', '^(a+)+$')",
    "SELECT 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' ~ '(a*)*(b|a*)*c\\1\\2'",
    "SELECT regexp_replace('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '((a?){20}){20}', '', 'g')",
    "SELECT 9.9 ^ 9999.9",
    "SELECT 99999 ^ 99999.5::numeric",
    "SELECT exp(6000::numeric)",
    "SELECT 1 / 0",
    "SELECT (-9223372036854775808)::bigint / -1",
    "SELECT 'infinity'::timestamptz - now()",
    "SELECT '5874897-12-31'::date, '294276-12-31'::timestamptz",
    "SELECT 'NaN'::float8, 'Infinity'::float8, '1e308'::float8 * 10",
    "SELECT jsonb_path_query('[1,2,3]', '$[*] ? (@ like_regex \"(a+)+$\")')",
    "SELECT to_char(now(), 'YYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYYY')",
    "SELECT make_timestamptz(2026, 1, 1, 0, 0, 0, 'Nowhere/Else')",
    "SELECT now() AT TIME ZONE '../../etc/passwd'",
    "SELECT 'a' < 'b' COLLATE \"no-such\"",
    "SELECT array_agg(n) FROM generate_series(1, 100000000) n",
    "SELECT string_agg(md5(n::text), '') FROM generate_series(1, 100000000) n",
    "SELECT count(*) FROM conditions GROUP BY CUBE (id, patient_id, system, code, label, onset, severity)",
    "SELECT p.row_to_json FROM conditions p",
    "SELECT '\\x00'::bytea, chr(0)",
    "SELECT decode('zz', 'hex')",
    "SELECT replace(md5('a') || md5('b'), '', 'x')",
    "SELECT DISTINCT a.id FROM conditions a, LATERAL (SELECT b.* FROM conditions b WHERE b.id = a.id) x",
    "SELECT U&'\\0441\\043B\\043E\\043D', 'Łódź', '🙂'",
    "SELECT 1 WHERE 'x' = E'\\x27 OR 1=1 --'",
];

/// Deep, long and wide texts that are over a bound of the statement itself.
fn generated_refused() -> Vec<String> {
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
fn generated_harmless() -> Vec<String> {
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
