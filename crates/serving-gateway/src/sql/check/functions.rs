//! The functions and operators that a statement may use: computations over its values. None reads files, the catalog, settings or other
//! sessions, waits, writes, or makes a value of any length out of a number (`repeat`, `lpad`, `format`).

/// Whether a function may be called by this name, which is one of PostgreSQL's own.
pub(super) fn is_allowed(name: &str) -> bool {
    [
        AGGREGATES, WINDOW, NUMBERS, TEXTS, PATTERNS, TIMES, CASTS, JSON, ARRAYS, OTHERS,
    ]
    .iter()
    .any(|group| group.contains(&name))
}

/// Whether an operator may be used by this name.
pub(super) fn is_operator(name: &str) -> bool {
    OPERATORS.contains(&name)
}

#[rustfmt::skip]
const AGGREGATES: &[&str] = &[
    "any_value", "array_agg", "avg", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "corr", "count",
    "covar_pop", "covar_samp", "every", "json_agg", "json_object_agg", "jsonb_agg", "jsonb_object_agg", "max",
    "min", "mode", "percentile_cont", "percentile_disc", "range_agg", "range_intersect_agg", "regr_avgx",
    "regr_avgy", "regr_count", "regr_intercept", "regr_r2", "regr_slope", "regr_sxx", "regr_sxy", "regr_syy",
    "stddev", "stddev_pop", "stddev_samp", "string_agg", "sum", "var_pop", "var_samp", "variance",
];

#[rustfmt::skip]
const WINDOW: &[&str] = &[
    "cume_dist", "dense_rank", "first_value", "lag", "last_value", "lead", "nth_value", "ntile", "percent_rank",
    "rank", "row_number",
];

#[rustfmt::skip]
const NUMBERS: &[&str] = &[
    "abs", "acos", "asin", "atan", "atan2", "cbrt", "ceil", "ceiling", "cos", "cot", "degrees", "div", "exp",
    "floor", "gcd", "lcm", "ln", "log", "log10", "min_scale", "mod", "pi", "power", "radians", "random", "round",
    "scale", "sign", "sin", "sqrt", "tan", "trim_scale", "trunc", "width_bucket",
];

#[rustfmt::skip]
const TEXTS: &[&str] = &[
    "ascii", "bit_length", "btrim", "char_length", "character_length", "chr", "concat", "concat_ws", "decode",
    "encode", "initcap", "is_normalized", "left", "length", "lower", "ltrim", "md5", "normalize", "octet_length",
    "overlay", "position", "quote_ident", "quote_literal", "quote_nullable", "replace", "reverse", "right", "rtrim",
    "sha224", "sha256", "sha384", "sha512", "split_part", "starts_with", "string_to_array", "string_to_table",
    "strpos", "substr", "substring", "to_hex", "translate", "upper",
];

#[rustfmt::skip]
const PATTERNS: &[&str] = &[
    "like_escape", "regexp_count", "regexp_instr", "regexp_like", "regexp_match", "regexp_matches",
    "regexp_replace", "regexp_split_to_array", "regexp_split_to_table", "regexp_substr", "similar_to_escape",
];

#[rustfmt::skip]
const TIMES: &[&str] = &[
    "age", "clock_timestamp", "date_add", "date_bin", "date_part", "date_subtract", "date_trunc", "extract",
    "isfinite", "justify_days", "justify_hours", "justify_interval", "make_date", "make_interval", "make_time",
    "make_timestamp", "make_timestamptz", "now", "overlaps", "statement_timestamp", "timezone", "to_char",
    "to_date", "to_number", "to_timestamp", "transaction_timestamp",
];

/// Types, which PostgreSQL lets be called as functions.
#[rustfmt::skip]
const CASTS: &[&str] = &[
    "bool", "date", "daterange", "float4", "float8", "int2", "int4", "int4range", "int8", "int8range", "interval",
    "numeric", "numrange", "text", "time", "timestamp", "timestamptz", "timetz", "tsrange", "tstzrange", "uuid",
];

#[rustfmt::skip]
const JSON: &[&str] = &[
    "array_to_json", "json_array_elements", "json_array_elements_text", "json_array_length", "json_build_array",
    "json_build_object", "json_each", "json_each_text", "json_extract_path", "json_extract_path_text",
    "json_object", "json_object_keys", "json_strip_nulls", "json_to_record", "json_to_recordset", "json_typeof",
    "jsonb_array_elements", "jsonb_array_elements_text", "jsonb_array_length", "jsonb_build_array",
    "jsonb_build_object", "jsonb_each", "jsonb_each_text", "jsonb_extract_path", "jsonb_extract_path_text",
    "jsonb_insert", "jsonb_object", "jsonb_object_keys", "jsonb_path_exists", "jsonb_path_match",
    "jsonb_path_query", "jsonb_path_query_array", "jsonb_path_query_first", "jsonb_pretty", "jsonb_set",
    "jsonb_strip_nulls", "jsonb_to_record", "jsonb_to_recordset", "jsonb_typeof", "row_to_json", "to_json",
    "to_jsonb",
];

#[rustfmt::skip]
const ARRAYS: &[&str] = &[
    "array_append", "array_cat", "array_dims", "array_length", "array_lower", "array_ndims", "array_position",
    "array_positions", "array_prepend", "array_remove", "array_replace", "array_to_string", "array_upper",
    "cardinality", "generate_series", "generate_subscripts", "trim_array", "unnest",
];

#[rustfmt::skip]
const OTHERS: &[&str] = &[
    "gen_random_uuid", "grouping", "isempty", "lower_inc", "lower_inf", "num_nonnulls", "num_nulls", "range_merge",
    "upper_inc", "upper_inf",
];

#[rustfmt::skip]
const OPERATORS: &[&str] = &[
    "=", "<>", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "^", "|/", "||/", "@", "&", "|", "#", "~",
    "<<", ">>", "||", "->", "->>", "#>", "#>>", "#-", "@>", "<@", "?", "?|", "?&", "@?", "@@", "&&", "-|-", "&<",
    "&>", "~~", "~~*", "!~~", "!~~*", "~*", "!~", "!~*", "^@", "~<~", "~<=~", "~>~", "~>=~",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_beyond_the_values_is_not_allowed() {
        for name in [
            "pg_sleep",
            "pg_read_file",
            "lo_import",
            "dblink",
            "query_to_xml",
            "set_config",
            "current_setting",
            "nextval",
            "pg_advisory_lock",
            "pg_notify",
            "version",
            "current_database",
            "repeat",
            "lpad",
            "rpad",
            "format",
            "txid_current",
            "setseed",
            "pg_typeof",
            "to_regclass",
            "has_table_privilege",
            "inet_server_addr",
            "pg_column_size",
            "json_populate_record",
            "",
        ] {
            assert!(!is_allowed(name), "{name}");
        }
        assert!(is_allowed("count") && is_allowed("upper") && is_operator("->>") && !is_operator("@-@"));
    }
}
