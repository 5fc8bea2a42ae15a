"""Exports of databases, imported with `cohortist import`: SQLite, DuckDB and, where it is installed, PostgreSQL.

    scripts/test --clients

runs this with the built program; by hand: pip install -r tests/clients/requirements.txt, then
python3 tests/clients/databases.py target/debug/cohortist. The counts must be those of the database itself.
"""

import csv
import glob
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import sys
import tempfile

import duckdb

ROWS = 20_000
# One table for all databases. Every 50th row has no user; times have a fraction of a second.
TABLE = f"""
    SELECT CASE WHEN n % 50 = 0 THEN NULL ELSE n * 7919 % 5003 END AS user_id,
           CASE n % 3 WHEN 0 THEN 'sign up' WHEN 1 THEN 'café' ELSE 'say "hi", there' END AS event,
           TIMESTAMP '2024-01-01 00:00:00.123456' + to_minutes(n * 37) AS created_at,
           CASE WHEN n % 4 = 0 THEN NULL WHEN n % 2 = 0 THEN 'pro' ELSE 'free' END AS plan
    FROM range(1, {ROWS} + 1) AS numbers(n)
"""


def expected(table):
    """The users of each event by month, and of each plan, as DuckDB counts them."""
    months = duckdb.sql(
        f"""SELECT event || '@' || strftime(created_at, '%Y-%m'), count(DISTINCT user_id)
            FROM ({table}) WHERE user_id IS NOT NULL GROUP BY ALL"""
    ).fetchall()
    plans = duckdb.sql(
        f"""SELECT 'plan:' || plan || '@ever', count(DISTINCT user_id)
            FROM ({table}) WHERE user_id IS NOT NULL AND plan IS NOT NULL GROUP BY ALL"""
    ).fetchall()
    return dict(months + plans)


def quoted(key):
    name, period = key.rsplit("@", 1)
    return '"' + name.replace('"', '\\"') + '"@' + period


class Check:
    def __init__(self, program, numbers):
        self.program = program
        self.numbers = numbers
        self.done = 0

    def file(self, title, name, *options, stdin=None):
        with tempfile.TemporaryDirectory() as store:
            base = [self.program, "--store", f"{store}/t.db"]
            command = base + ["import", name, "--property", "plan", "--max-skipped", "5", *options]
            ran = subprocess.run(command, input=stdin, capture_output=True)
            if ran.returncode != 0:
                sys.exit(f"{title}: exit code {ran.returncode}\n{ran.stdout.decode()}{ran.stderr.decode()}")
            keys = list(self.numbers)
            count = base + ["count", *map(quoted, keys)]
            lines = subprocess.run(count, capture_output=True, check=True).stdout.decode().splitlines()
            found = {key: int(line.split("\t")[0]) for key, line in zip(keys, lines, strict=True)}
        assert found == self.numbers, f"{title}: {found} instead of {self.numbers}"
        self.done += 1
        print(f"ok  {title}")


def sqlite(check, directory):
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE events (user_id INTEGER, event TEXT, created_at TEXT, plan TEXT)")
    rows = duckdb.sql(TABLE).fetchall()
    base.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", [(a, b, str(c), d) for a, b, c, d in rows])
    for title, column in [
        ("text", "created_at"),
        ("unix seconds", "CAST(strftime('%s', created_at) AS INTEGER) AS time"),
        ("milliseconds", "CAST(strftime('%s', created_at) AS INTEGER) * 1000 AS time"),
    ]:
        selected = base.execute(f"SELECT user_id, event, {column}, plan FROM events")
        name = f"{directory}/sqlite.csv"
        with open(name, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow([part[0] for part in selected.description])
            writer.writerows(selected)
        check.file(f"SQLite, {title}, CSV", name)
    name = f"{directory}/sqlite.ndjson"
    with open(name, "w") as file:
        for user, event, at, plan in base.execute("SELECT * FROM events"):
            json.dump({"user_id": user, "event": event, "created_at": at, "plan": plan}, file)
            file.write("\n")
    check.file("SQLite, JSON lines", name)


def duck(check, directory):
    for title, name, options in [
        ("CSV", "duck.csv", "(HEADER)"),
        ("CSV with semicolons, gzip", "duck.csv.gz", "(HEADER, DELIMITER ';', COMPRESSION gzip)"),
        ("JSON lines", "duck.json", "(FORMAT json)"),
        ("JSON lines, zstd", "duck.json.zst", "(FORMAT json, COMPRESSION zstd)"),
        ("Parquet", "duck.parquet", "(FORMAT parquet)"),
        ("Parquet, zstd, small row groups", "small.parquet", "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 2048)"),
        ("Parquet, lz4_raw", "lz4.parquet", "(FORMAT parquet, COMPRESSION lz4_raw)"),
        ("Parquet, gzip, version 2", "v2.parquet", "(FORMAT parquet, COMPRESSION gzip, PARQUET_VERSION v2)"),
    ]:
        duckdb.sql(f"COPY ({TABLE}) TO '{directory}/{name}' {options}")
        check.file(f"DuckDB, {title}", f"{directory}/{name}")
    for kind in ["TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE", "DATE", "VARCHAR"]:
        name = f"{directory}/type.parquet"
        duckdb.sql("SET TimeZone = 'UTC'")
        duckdb.sql(f"COPY (SELECT * REPLACE (CAST(created_at AS {kind}) AS created_at) FROM ({TABLE})) TO '{name}'")
        check.file(f"DuckDB, Parquet, {kind}", name)
    for kind in ["UINTEGER", "HUGEINT", "DOUBLE", "VARCHAR", "DECIMAL(18, 0)", "DECIMAL(38, 2)"]:
        name = f"{directory}/type.parquet"
        duckdb.sql(f"COPY (SELECT * REPLACE (CAST(user_id AS {kind}) AS user_id) FROM ({TABLE})) TO '{name}'")
        check.file(f"DuckDB, Parquet, users as {kind}", name)


def postgres(check, directory):
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"))
    if not places or not shutil.which("psql"):
        print("--  PostgreSQL is not installed (apt-get install postgresql): left out")
        return
    # The server refuses to run as root.
    user = pwd.getpwnam("postgres") if os.getuid() == 0 else None

    def demote():
        if user:
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)

    home = tempfile.mkdtemp(prefix="pg")
    if user:
        os.chown(home, user.pw_uid, user.pw_gid)
    server = lambda *args: subprocess.run(  # noqa: E731
        args, preexec_fn=demote, check=True, stdout=subprocess.DEVNULL, cwd=home
    )
    data = f"{home}/data"
    server(f"{places[-1]}/initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync")
    # Reached through a socket in the directory only.
    options = f"-c listen_addresses= -c unix_socket_directories={home} -c timezone=Europe/Berlin"
    server(f"{places[-1]}/pg_ctl", "-D", data, "-w", "-l", f"{home}/log", "-o", options, "start")
    try:
        psql = ["psql", "-q", "-h", home, "-U", "postgres", "-v", "ON_ERROR_STOP=1", "-c"]
        source = f"{directory}/source.csv"
        duckdb.sql(f"COPY ({TABLE}) TO '{source}' (HEADER)")
        subprocess.run(
            psql + ["CREATE TABLE events (user_id bigint, event text, created_at timestamp, plan text)"], check=True
        )
        with open(source, "rb") as file:
            subprocess.run(psql + ["COPY events FROM STDIN CSV HEADER"], stdin=file, check=True)
        zoned = "SELECT user_id, event, created_at AT TIME ZONE 'UTC' AS created_at, plan FROM events"
        rows = "SELECT row_to_json(events) FROM events"
        for title, query, options in [
            ("COPY … CSV HEADER", "COPY events TO STDOUT CSV HEADER", []),
            ("COPY … CSV HEADER, with time zone", f"COPY ({zoned}) TO STDOUT CSV HEADER", []),
            ("COPY … HEADER (tabs)", "COPY events TO STDOUT (FORMAT text, HEADER)", []),
            ("COPY … CSV without a header", "COPY events TO STDOUT CSV", ["--columns", "user_id,event,created_at,plan"]),
        ]:
            out = subprocess.run(psql + [query], check=True, capture_output=True).stdout
            check.file(f"PostgreSQL, {title}", "-", *options, stdin=out)
        out = subprocess.run(psql[:-1] + ["-At", "-c", rows], check=True, capture_output=True).stdout
        check.file("PostgreSQL, row_to_json", "-", stdin=out)
    finally:
        server(f"{places[-1]}/pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


def main():
    check = Check(os.path.abspath(sys.argv[1]), expected(TABLE))
    assert len(check.numbers) > 40, check.numbers
    with tempfile.TemporaryDirectory() as directory:
        sqlite(check, directory)
        duck(check, directory)
        postgres(check, directory)
    print(f"{check.done} exports have the numbers of their databases")


if __name__ == "__main__":
    main()
