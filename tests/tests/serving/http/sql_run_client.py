"""An independent client of $sql-run: the standard library of Python only, nothing of ours.

Checks each format and each error of OperationDefinition SQLRun (SQL on FHIR 3.0.0-ballot) against a gateway that serves the views of the test: `typed` and
`waiting`, over the conditions c-1, c-2 and c-3. Usage: sql_run_client.py http://host:port. One line a failed check; the exit code is 1 if there is one.
"""

import base64
import csv
import gzip
import http.client
import io
import json
import sys
import urllib.parse
from decimal import Decimal

HOST = urllib.parse.urlsplit(sys.argv[1]).netloc
URL = "http://example.org/ViewDefinition/typed"
checks = failures = 0


def check(what, holds, said=""):
    global checks, failures
    checks += 1
    if not holds:
        failures += 1
        print(f"FAILED {what}: {said}")


def ask(method, path, query=(), body=None, headers=None):
    connection = http.client.HTTPConnection(HOST, timeout=30)
    if query:
        path += "?" + urllib.parse.urlencode(query)
    headers = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/fhir+json")
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


def get(query, headers=None):
    return ask("GET", "/$sql-run", query, headers=headers)


def post(*parameters, headers=None):
    return ask("POST", "/$sql-run", body={"resourceType": "Parameters", "parameter": list(parameters)}, headers=headers)


def exact(text):
    """JSON with numbers as they are written."""
    return json.loads(text, parse_float=Decimal)


BY_URL = ("subjectCanonical", URL)
ROWS = [
    {"id": "c-1", "patient_id": "p-1", "label": 'Diabetes, "type 2"', "severity": Decimal("1.50"), "coded": True, "codings": 1, "updated": "2026-01-31T10:00:00.500Z"},
    {"id": "c-2", "patient_id": "p-1", "label": "Asthma\nof childhood", "severity": Decimal("10"), "coded": True, "codings": 2, "updated": "2026-02-28T12:00:00Z"},
    {"id": "c-3", "patient_id": "p-2", "label": None, "severity": None, "coded": False, "codings": 0, "updated": None},
]
NAMES = list(ROWS[0])


def by_id(rows):
    return sorted(rows, key=lambda row: row["id"])


def same_numbers(rows):
    """Every digit, not only the same value."""
    return [str(row["severity"]) for row in by_id(rows)] == ["1.50", "10", "None"]


def formats():
    status, headers, content = get([BY_URL])
    check("ndjson is the default", status == 200 and headers["content-type"] == "application/x-ndjson", headers)
    check("an answer is sent in chunks", headers.get("transfer-encoding") == "chunked", headers)
    rows = [exact(line) for line in content.decode().splitlines()]
    check("ndjson rows", by_id(rows) == ROWS and same_numbers(rows), rows)
    check("ndjson ends with a line's end", content.endswith(b"\n"), content[-5:])

    status, headers, content = get([BY_URL, ("_format", "json")])
    check("json", headers["content-type"] == "application/json" and by_id(exact(content)) == ROWS, content)

    status, headers, content = get([BY_URL, ("_format", "csv")])
    lines = list(csv.reader(io.StringIO(content.decode(), newline="")))
    check("csv begins with the names", headers["content-type"] == "text/csv" and lines[0] == NAMES, lines[:1])
    expected = [["" if value is None else {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value) for value in row.values()] for row in ROWS]
    check("csv rows", sorted(lines[1:]) == expected, lines)
    check("csv lines end with CR LF", content.count(b"\r\n") == 4, content)
    for word in ("false", "true"):
        content = get([BY_URL, ("_format", "csv"), ("header", word)])[2]
        check(f"header={word}", content.startswith(b"id,patient_id") == (word == "true"), content[:40])

    status, headers, content = get([BY_URL, ("_format", "fhir")])
    resource = exact(content)
    check("fhir", headers["content-type"] == "application/fhir+json" and resource["resourceType"] == "Parameters", headers)
    kinds = {"codings": "valueInteger", "severity": "valueDecimal", "coded": "valueBoolean", "updated": "valueInstant"}
    rows = [{part["name"]: part[kinds.get(part["name"], "valueString")] for part in row["part"]} for row in resource["parameter"]]
    check("fhir rows have no part for null", by_id(rows) == [{k: v for k, v in row.items() if v is not None} for row in ROWS], rows)
    content = get([BY_URL, ("_format", "fhir"), ("_limit", "0")])[2]
    check("no rows, no parameter", json.loads(content) == {"resourceType": "Parameters"}, content)
    check("no rows of json", json.loads(get([BY_URL, ("_format", "json"), ("_limit", "0")])[2]) == [], "")


def negotiation():
    for accept, kind in [
        ("text/csv", "text/csv"),
        ("application/json", "application/json"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("application/octet-stream", "application/x-ndjson"),
        ("*/*", "application/x-ndjson"),
        ("application/json;q=0.1, text/csv", "text/csv"),
    ]:
        check(f"Accept: {accept}", get([BY_URL], {"Accept": accept})[1]["content-type"] == kind, kind)
    headers = get([BY_URL, ("_format", "csv")], {"Accept": "application/json"})[1]
    check("_format beats Accept", headers["content-type"] == "text/csv", headers)
    for kind in ("csv", "json", "ndjson"):
        raw = get([BY_URL, ("_format", kind)])
        status, headers, content = get([BY_URL, ("_format", kind)], {"Accept": "application/fhir+json"})
        binary = json.loads(content)
        whole = binary["resourceType"] == "Binary" and headers["content-type"] == "application/fhir+json"
        check(f"{kind} in a Binary", whole and binary["contentType"] == raw[1]["content-type"], headers)
        data = base64.b64decode(binary["data"], validate=True)
        check(f"{kind} in a Binary is the same", sorted(data.splitlines()) == sorted(raw[2].splitlines()), data)
    headers, content = get([BY_URL], {"Accept-Encoding": "gzip"})[1:]
    rows = [exact(line) for line in gzip.decompress(content).splitlines()]
    check("gzip", headers["content-encoding"] == "gzip" and by_id(rows) == ROWS, headers)


def narrowed():
    def ids(query, headers=None):
        status, _, content = get([BY_URL, *query], headers)
        return sorted(exact(line)["id"] for line in content.splitlines()) if status == 200 else (status, content)

    check("patient", ids([("patient", "Patient/p-2")]) == ["c-3"], "")
    check("patients", ids([("patient", "Patient/p-2"), ("patient", "p-1")]) == ["c-1", "c-2", "c-3"], "")
    check("group", ids([("group", "Group/g-1")]) == ["c-1", "c-2"], "")
    check("patient and group", ids([("group", "Group/g-1"), ("patient", "Patient/p-2")]) == [], "")
    check("a Group without members", ids([("group", "Group/g-none")]) == [], "")
    check("_since", ids([("_since", "2999-01-01T00:00:00Z")]) == [], "")
    check("_since, long ago", len(ids([("_since", "2001-01-01T00:00:00+01:00")])) == 3, "")
    check("_limit", len(ids([("_limit", "2")])) == 2, "")
    check("a version", len(get([("subjectCanonical", URL + "|2.0.0")])[2].splitlines()) == 3, "")
    for place in ("ViewDefinition/typed-view", f"http://{HOST}/ViewDefinition/typed-view"):
        check(f"subjectReference {place}", len(get([("subjectReference", place)])[2].splitlines()) == 3, "")
    check("a view that is not materialised", b"c-9" in get([("subjectReference", "ViewDefinition/waiting")])[2], "")


VIEW = {"resourceType": "ViewDefinition", "status": "draft", "resource": "Patient",
        "select": [{"column": [{"name": "id", "path": "getResourceKey()"}, {"name": "family", "path": "name.family.first()"}]}]}
COLE = {"resourceType": "Patient", "id": "pt-1", "name": [{"family": "Cole"}]}
DOE = {"resourceType": "Patient", "id": "pt-2", "name": [{"family": "Doe"}]}


def subject(resource):
    return {"name": "subjectResource", "resource": resource}


def inline():
    typed = [{"name": "subjectCanonical", "valueCanonical": URL}, {"name": "_format", "valueCode": "json"}, {"name": "_limit", "valueInteger": 1},
             {"name": "patient", "valueReference": {"reference": "Patient/p-2"}}, {"name": "header", "valueBoolean": True},
             {"name": "_since", "valueInstant": "2001-01-01T00:00:00Z"}]
    content = post(*typed)[2]
    check("typed parameters", [row["id"] for row in exact(content)] == ["c-3"], content)
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": DOE}, {"resource": {"resourceType": "Group", "id": "x"}}]}
    status, headers, content = post(subject(VIEW), {"name": "resource", "resource": COLE}, {"name": "resource", "resource": bundle}, {"name": "_format", "valueCode": "csv"})
    check("resources and a Bundle", content == b"id,family\r\npt-1,Cole\r\npt-2,Doe\r\n", content)
    check("rows of the request", headers["x-researchflow-source"] == "request", headers)
    view = dict(VIEW, resource="Condition", select=[{"column": [{"name": "id", "path": "getResourceKey()"}]}])
    status, headers, content = post(subject(view))
    check("an inline view over HAPI's tables", content == b'{"id":"c-9"}\n', content)
    check("its source", headers["x-researchflow-source"] == "raw", headers)


def freshness():
    status, headers, _ = get([BY_URL], {"X-Request-Id": "abc-1"})
    check("the request's id is given back", headers["x-request-id"] == "abc-1", headers)
    for name in ("x-researchflow-as-of", "x-researchflow-staleness-ms", "last-modified", "x-researchflow-batch-as-of"):
        check(name, name in headers, headers)
    check("the source", headers["x-researchflow-source"] == "materialized", headers)
    check("nothing is stored on the way", headers["cache-control"] == "no-store", headers)
    status, _, content = get([BY_URL], {"X-ResearchFlow-Max-Staleness-Ms": "1"})
    check("too old", status == 409 and outcome(content)[0] == "conflict", content)
    headers = get([BY_URL], {"X-ResearchFlow-Layers": "batch"})[1]
    check("batch only", "SPEED_LAYER_OFF" in headers["x-researchflow-degradation"], headers)


def outcome(content):
    resource = json.loads(content)
    assert resource["resourceType"] == "OperationOutcome", resource
    issue = resource["issue"][0]
    return issue["code"], issue.get("expression", [])


def refused(what, answer, status, code, expression=None):
    said = answer[0], answer[1].get("content-type"), answer[2][:300]
    try:
        found, names = outcome(answer[2])
    except (ValueError, AssertionError) as error:
        return check(what, False, f"{error} {said}")
    named = expression is None or expression in names
    check(what, answer[0] == status and found == code and named and answer[1]["content-type"].startswith("application/fhir+json"), said)


def errors():
    by_url = {"name": "subjectCanonical", "valueCanonical": URL}
    refused("no subject", get([]), 400, "required")
    refused("two subjects", get([BY_URL, ("subjectReference", "ViewDefinition/typed-view")]), 400, "invalid", "subjectReference")
    nested = {"resourceType": "Parameters", "parameter": []}
    refused("parameters on a view", post(by_url, {"name": "parameters", "resource": nested}), 400, "invalid", "parameters")
    refused("context on a view", post(by_url, {"name": "context", "resource": VIEW}), 400, "invalid", "context")
    for name in ("subjectResource", "parameters", "context", "resource"):
        refused(f"{name} over GET", get([BY_URL, (name, "x")]), 400, "invalid", name)
    refused("an unknown patient", get([BY_URL, ("patient", "Patient/nobody")]), 400, "not-found", "patient")
    refused("an unknown group", get([BY_URL, ("group", "Group/nobody")]), 400, "not-found", "group")
    refused("a group by criteria", get([BY_URL, ("group", "Group/g-criteria")]), 400, "not-supported", "group")
    for name in ("source", "_count", "clientTrackingId"):
        refused(f"{name} is not served", get([BY_URL, (name, "1")]), 400, "not-supported", name)
    for kind in ("parquet", "xml", ""):
        refused(f"_format={kind}", get([BY_URL, ("_format", kind)]), 400, "not-supported" if kind else "invalid", "_format")
    refused("an unknown canonical", get([("subjectCanonical", "http://example.org/none")]), 404, "not-found", "subjectCanonical")
    refused("an unknown version", get([("subjectCanonical", URL + "|9")]), 404, "not-found", "subjectCanonical")
    for place in ("ViewDefinition/none", "Library/none", "http://elsewhere.example/ViewDefinition/typed-view"):
        refused(f"no such place: {place}", get([("subjectReference", place)]), 404, "not-found", "subjectReference")
    both = get([("subjectReference", "ViewDefinition/none"), ("patient", "Patient/nobody")])
    refused("an unknown subject and an unknown patient", both, 404, "not-found", "subjectReference")
    check("both are told", len(json.loads(both[2])["issue"]) == 2, both[2])
    refused("Accept: application/fhir+xml", get([BY_URL], {"Accept": "application/fhir+xml"}), 406, "not-supported")
    refused("Accept: parquet", get([BY_URL], {"Accept": "application/vnd.apache.parquet"}), 406, "not-supported")
    refused("neither kind of subject", post(subject(COLE)), 422, "invalid", "subjectResource")
    refused("a Library that is no query", post(subject({"resourceType": "Library", "type": {"coding": [{"code": "logic-library"}]}})), 422, "invalid", "subjectResource")
    bad = dict(VIEW, select=[{"column": [{"name": "id", "path": "name.("}]}])
    refused("invalid FHIRPath", post(subject(bad)), 422, "invalid", "subjectResource")
    many = dict(COLE, name=[{"family": "a"}, {"family": "b"}])
    single = dict(VIEW, select=[{"column": [{"name": "family", "path": "name.family"}]}])
    refused("a resource that cannot be evaluated", post(subject(single), {"name": "resource", "resource": many}), 422, "invalid", "resource")
    lists = dict(VIEW, select=[{"column": [{"name": "families", "path": "name.family", "collection": True}]}])
    refused("an array as fhir", post(subject(lists), {"name": "resource", "resource": COLE}, {"name": "_format", "valueCode": "fhir"}), 422, "invalid")
    refused("a narrowed resource", post(subject(VIEW), {"name": "resource", "resource": COLE}, {"name": "patient", "valueString": "p-1"}), 400, "not-supported", "patient")
    refused("no Parameters", ask("POST", "/$sql-run", body=COLE), 400, "structure")
    refused("no JSON", ask("POST", "/$sql-run", body=b"{", headers={"Content-Type": "application/fhir+json"}), 400, "structure")
    refused("another kind of body", ask("POST", "/$sql-run", body=b"<a/>", headers={"Content-Type": "application/fhir+xml"}), 415, "not-supported")
    refused("an unknown path", ask("GET", "/Patient/1"), 404, "not-found")
    for method, path in [("PUT", "/$sql-run"), ("DELETE", "/ViewDefinition/typed-view"), ("POST", "/metadata")]:
        answer = ask(method, path)
        refused(f"{method} {path}", answer, 405, "not-supported")
        check(f"{method} {path}: Allow", "GET" in answer[1].get("allow", ""), answer[1])


def library(statement, **members):
    query = {
        "resourceType": "Library",
        "meta": {"profile": ["http://hl7.org/fhir/uv/sql-on-fhir/StructureDefinition/SQLQuery"]},
        "type": {"coding": [{"system": "http://hl7.org/fhir/uv/sql-on-fhir/CodeSystem/LibraryTypesCodes", "code": "sql-query"}]},
        "status": "active",
        "relatedArtifact": [{"type": "depends-on", "resource": URL, "label": "c"}],
        "content": [{"contentType": "application/sql", "data": base64.b64encode(statement.encode()).decode()}],
    }
    return subject(dict(query, **members))


def values(*parameters):
    return {"name": "parameters", "resource": {"resourceType": "Parameters", "parameter": list(parameters)}}


def queries():
    statement = "SELECT c.id, c.severity FROM c WHERE c.patient_id = :who AND c.severity > :low ORDER BY c.severity"
    declared = [{"name": "who", "type": "string", "use": "in"}, {"name": "low", "type": "decimal", "use": "in"}]
    query = library(statement, parameter=declared)
    who, low = {"name": "who", "valueString": "p-1"}, {"name": "low", "valueDecimal": 1}
    status, headers, content = post(query, values(who, low))
    check("a query with parameters", content == b'{"id":"c-1","severity":1.50}\n{"id":"c-2","severity":10}\n', content)
    check("its freshness", "x-researchflow-as-of" in headers and headers["x-researchflow-source"] == "materialized", headers)
    content = post(query, values(who, low), {"name": "_limit", "valueInteger": 1}, {"name": "_format", "valueCode": "csv"})[2]
    check("a query as csv, limited", content == b"id,severity\r\nc-1,1.50\r\n", content)
    check("nothing of a query", post(query, values(who, low), {"name": "_limit", "valueInteger": 0})[2] == b"", "")
    content = post(library("SELECT count(*) AS n, true AS yes, DATE '2026-01-31' AS day, NULL::text AS nothing FROM c"), {"name": "_format", "valueCode": "fhir"})[2]
    parts = [{"name": "n", "valueInteger64": "3"}, {"name": "yes", "valueBoolean": True}, {"name": "day", "valueDate": "2026-01-31"}]
    check("a query as fhir", exact(content)["parameter"] == [{"name": "row", "part": parts}], content)
    dialects = [{"contentType": "application/sql;dialect=duckdb", "data": "eA=="},
                {"contentType": "application/sql;dialect=postgresql", "extension": [
                    {"url": "http://hl7.org/fhir/uv/sql-on-fhir/StructureDefinition/sql-text", "valueString": "SELECT id FROM typed WHERE id = 'c-3'"}]}]
    check("the dialect, and a view by its name", post(library("", content=dialects))[2] == b'{"id":"c-3"}\n', "")

    by = "subjectResource"
    refused("a value is missing", post(query, values(who)), 400, "required", "parameters")
    refused("a value of another type", post(query, values(who, {"name": "low", "valueString": "1"})), 400, "invalid", "parameters")
    refused("a value that is not declared", post(query, values(who, low, {"name": "high", "valueDecimal": 1})), 400, "invalid", "parameters")
    day = library("SELECT id FROM c WHERE DATE '2026-01-01' > CAST(:day AS date)", parameter=[{"name": "day", "type": "date", "use": "in"}])
    refused("a value that is no date", post(day, values({"name": "day", "valueDate": "then"})), 400, "invalid", "parameters")
    refused("resource with a query", post(query, {"name": "resource", "resource": COLE}), 400, "invalid", "resource")
    refused("patient with a query", post(query, {"name": "patient", "valueString": "p-1"}), 400, "not-supported", "patient")
    refused("context without a url", post(query, {"name": "context", "resource": VIEW}), 400, "invalid", "context")
    refused("context of nothing", post(query, {"name": "context", "resource": dict(VIEW, url=URL + "x")}), 400, "invalid", "context")
    twice = {"name": "context", "resource": dict(VIEW, url=URL)}
    refused("context twice", post(query, twice, twice), 400, "invalid", "context")
    refused("context is not served", post(query, twice), 400, "not-supported", "context")
    missing = [{"type": "depends-on", "resource": "http://example.org/ViewDefinition/none", "label": "c"}]
    answer = post(library(statement, relatedArtifact=missing, parameter=declared), values(who, low))
    refused("an unknown dependency", answer, 404, "not-found")
    check("the dependency is told", b"http://example.org/ViewDefinition/none" in answer[2], answer[2])
    for what, text in [("no SQL", "SELEKT 1"), ("an unknown table", "SELECT * FROM nothing"), ("an unknown column", "SELECT c.nothing FROM c"),
                       ("a write", "DELETE FROM c"), ("two statements", "SELECT 1; SELECT 2"), ("the catalog", "SELECT * FROM pg_class")]:
        refused(f"{what} in a query", post(library(text)), 422, "invalid", by)
    refused("an unknown parameter in a query", post(library("SELECT :x FROM c")), 422, "invalid", by)
    refused("an array as fhir", post(library("SELECT ARRAY[1, 2] AS a FROM c"), {"name": "_format", "valueCode": "fhir"}), 422, "invalid")
    refused("a query by the alias", ask("POST", "/$viewdefinition-run", body={"resourceType": "Parameters", "parameter": [dict(query, name="viewResource")]}), 422, "invalid", "viewResource")


def alias():
    for path, query in [
        ("/$viewdefinition-run", [("viewReference", "ViewDefinition/typed-view")]),
        ("/ViewDefinition/$viewdefinition-run", [("viewReference", URL)]),
        ("/ViewDefinition/typed-view/$viewdefinition-run", []),
        ("/ViewDefinition/typed-view/%24viewdefinition-run", []),
    ]:
        check(path, len(ask("GET", path, query)[2].splitlines()) == 3, path)
    body = {"resourceType": "Parameters", "parameter": [{"name": "viewResource", "resource": VIEW}, {"name": "resource", "resource": COLE}]}
    check("viewResource", ask("POST", "/ViewDefinition/$viewdefinition-run", body=body)[2] == b'{"id":"pt-1","family":"Cole"}\n', "")
    answer = ask("GET", "/ViewDefinition/typed-view/$viewdefinition-run", [("viewReference", "x")])
    refused("a subject beside the path", answer, 400, "invalid", "viewReference")
    refused("an unknown view in the path", ask("GET", "/ViewDefinition/none/$viewdefinition-run"), 404, "not-found")


for part in (formats, negotiation, narrowed, inline, freshness, errors, queries, alias):
    part()
print(f"{checks} checks, {failures} failed")
sys.exit(1 if failures else 0)
