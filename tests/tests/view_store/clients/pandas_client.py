"""An analyst with pandas, over psycopg and SQLAlchemy; nothing of ours. Reads the merged views while they change.

Usage: pandas_client.py URL READS CHANGED. Reads the view `readings` and its narrower sister `critical` again and again, in each of the ways that pandas users have, and holds every frame
to what rows say of themselves. Wanted of this client: no error; frames in which each resource has all of its rows, once, of one version; versions that never go
back; types as an analyst needs them: exact numbers, times with a zone, true booleans. It reads READS times at least, and until it has seen CHANGED new versions. One line a failed check; the last line is `READS reads, CHANGED versions`.
"""

import decimal
import sys

import pandas
import psycopg
import sqlalchemy

URL, READS, CHANGED = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
COLUMNS = "id, version, part, parts, value, issued, critical, note"
SELECT = f"SELECT {COLUMNS} FROM sqlonfhir.readings ORDER BY id, part"
failures = 0
newest = {}
changed = 0


def check(what, holds, said=""):
    global failures
    if not holds:
        failures += 1
        print(f"FAILED {what}: {said}")


def check_rows(frame):
    """What each row must be follows from its version, and what a resource's rows must be follows from its first."""
    global changed
    seen = {}
    for id, version, part, parts, value, issued, critical, note in frame.itertuples(index=False, name=None):
        versions, numbers = seen.setdefault(id, (set(), []))
        versions.add(version)
        numbers.append(part)
        check("parts", parts == 1 + version % 3, (id, version, parts))
        check("exact value", value == decimal.Decimal(f"{version}.{part}0") and -value.as_tuple().exponent == 2, (id, value))
        check("issued", issued == pandas.Timestamp(version, unit="s", tz="UTC"), (id, issued))
        check("critical", critical is (version % 2 == 0) or critical == (version % 2 == 0), (id, critical))
        check("note", note == f"of {id}", (id, note))
    for id, (versions, numbers) in seen.items():
        check("one version", len(versions) == 1, (id, versions))
        version = max(versions)
        check("all rows, once", numbers == list(range(1, 2 + version % 3)), (id, numbers))
        check("not back", version >= newest.get(id, 0), (id, version, newest.get(id)))
        changed += version > newest.get(id, version)
        newest[id] = version
    steady = sorted(id for id in seen if id.startswith("steady-"))
    check("nothing missing", steady == [f"steady-{number:03}" for number in range(100)], len(steady))
    # Neighbours change in one transaction.
    for number in range(0, 100, 2):
        pair = [seen.get(f"steady-{number + more:03}", ({0}, []))[0] for more in (0, 1)]
        check("no half of a change", pair[0] == pair[1], (number, pair))


def check_types(frame):
    check("integer", str(frame["version"].dtype) == "int64", frame["version"].dtype)
    check("decimal", frame["value"].map(type).eq(decimal.Decimal).all(), frame["value"].dtype)
    check("boolean", str(frame["critical"].dtype) == "bool", frame["critical"].dtype)
    issued = frame["issued"].dtype
    check("time with zone", isinstance(issued, pandas.DatetimeTZDtype) and str(issued.tz) == "UTC", issued)
    check("text", frame["note"].map(type).eq(str).all(), frame["note"].dtype)


def main():
    # Times come in the session's zone; an analyst wants one that does not depend on the machine.
    engine = sqlalchemy.create_engine(
        URL.replace("postgresql://", "postgresql+psycopg://"),
        connect_args={"options": "-c TimeZone=UTC"},
        isolation_level="REPEATABLE READ",
    )
    with engine.connect() as plain, engine.connect().execution_options(stream_results=True, max_row_buffer=40) as streamed:
        number = 0
        while number < READS or changed < CHANGED:
            if number % 3 == 0:
                # Whole, as most people do. The driver prepares the statement when it has come five times.
                frame = pandas.read_sql_query(sqlalchemy.text(SELECT), plain, coerce_float=False)
                plain.rollback()
            elif number % 3 == 1:
                # In chunks, over a cursor of the server: for what does not fit into memory.
                chunks = list(pandas.read_sql_query(sqlalchemy.text(SELECT), streamed, coerce_float=False, chunksize=40))
                check("chunks", len(chunks) > 2, len(chunks))
                frame = pandas.concat(chunks)
                streamed.rollback()
            else:
                # psycopg alone, with parameters, prepared by the server.
                with psycopg.connect(URL, options="-c TimeZone=UTC") as connection, connection.cursor() as cursor:
                    cursor.execute(f"{SELECT.replace(' ORDER', ' WHERE version >= %s ORDER')}", (0,), prepare=True)
                    frame = pandas.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description])
            check_types(frame)
            check_rows(frame)
            # The narrower view is of the same moment where one statement asks both.
            crossing = pandas.read_sql_query(
                sqlalchemy.text(
                    "SELECT count(*) AS odd FROM (SELECT id, version FROM sqlonfhir.readings WHERE critical AND part = 1) r "
                    "FULL JOIN sqlonfhir.critical c USING (id, version) WHERE r.id IS NULL OR c.id IS NULL"
                ),
                plain,
            )
            plain.rollback()
            check("rows move between views at once", crossing["odd"][0] == 0, crossing["odd"][0])
            number += 1
    print(f"{number} reads, {changed} versions")
    return 1 if failures else 0


sys.exit(main())
