"""Five more questions to cohortist, DuckDB and chDB, on the same marks of 120 days. `benches/peers/run` starts it.

Every program answers in the form that suits it best: DuckDB from raw marks, chDB from bitmaps. The answers are compared, number by number.
"""

import argparse
import contextlib
import datetime
import json
import multiprocessing
import statistics
import subprocess
import time

import marks
import ours
import setting
from compare import factor, shown
from marks import COLS, ROWS, TODAY

DAYS = 120
BRACKETS = [(1, 1), (2, 7), (8, 14), (15, 30)]
# The peers' factors that are wanted of cohortist.
GOAL = 10

# Each question with the fields of cohortist's report.
QUESTIONS = {
    "first-time cohorts, 31 × 13": f"retention?cohort=first(active)&returning=active&by=day&rows={ROWS}&cols={COLS}",
    "four brackets": f"retention?cohort=active&returning=active&by=day&rows={ROWS}&brackets=1,2-7,8-14,15-30",
    "lifecycle of 90 days": "lifecycle?event=active&by=day&rows=90",
    "frequency of 28 days": f"frequency?event=active&window=28d&to={TODAY}",
    "rolling 28 days, 90 days": "trends?event=active&by=day&rows=90&rolling=28d",
}


def day(text):
    return datetime.date.fromisoformat(str(text))


def back(days):
    return TODAY - datetime.timedelta(days=days)


class Library:
    """cohortist's library in a process of its own, which takes the time itself."""

    def __init__(self, program, store):
        self.library = ours.Library(program, store)
        self.answer, _ = self.library.way("warm")

    def ask(self, name):
        process = self.library.process
        process.stdin.write(QUESTIONS[name] + "\n")
        process.stdin.flush()
        said = json.loads(process.stdout.readline())
        return said["ms"], numbers(name, said["rows"])

    def close(self):
        self.library.close()


def numbers(name, rows):
    """What cohortist says, in the form that all are compared in: a set of tuples, without zeros."""
    if name.startswith("lifecycle"):
        classes = ["active", "new", "returning", "resurrected", "dormant"]
        found = {(day(row["period_start"]), *[row[one] for one in classes]) for row in rows}
    elif name.startswith("frequency"):
        found = {(int(row["days"]), row["exactly"]) for row in rows}
    elif name.startswith("rolling"):
        found = {(day(row["period_start"]), row["people"]) for row in rows}
    else:
        column = "period_index"
        begun = [row for row in rows if row["retained"] is not None]
        found = {(day(row["cohort_start"]), int(str(row[column]).split("-")[0]), row["retained"]) for row in begun}
    return {one for one in found if one[-1] or name.startswith("lifecycle")}


class Sql:
    """A peer in a process of its own."""

    def __init__(self, make, made):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=answer, args=(theirs, make, made))
        self.process.start()
        theirs.close()
        assert self.pipe.recv() == "ready"

    def ask(self, name):
        self.pipe.send(name)
        return self.pipe.recv()

    def close(self):
        self.pipe.send(None)
        self.process.join()


def answer(pipe, make, made):
    ask = make(made)
    pipe.send("ready")
    while (name := pipe.recv()) is not None:
        began = time.perf_counter()
        rows = ask(name)
        took = (time.perf_counter() - began) * 1000
        pipe.send((took, {tuple(day(v) if i == 0 and "-" in str(v) else int(v) for i, v in enumerate(row)) for row in rows}))


def duckdb(made):
    """Raw marks in memory, each there once, with two threads."""
    import duckdb

    db = duckdb.connect(config={"threads": 2})
    db.execute(f"CREATE TABLE active AS SELECT day, \"user\" AS u FROM read_parquet('{made.rows('active')}') ORDER BY day, u")
    first, start = back(ROWS - 1), back(89)
    bracket = " ".join(f"WHEN r.day - c.day BETWEEN {a} AND {b} THEN {a}" for a, b in BRACKETS)
    queries = {
        "first-time cohorts, 31 × 13": f"""
            WITH c AS (SELECT u, min(day) AS day FROM active GROUP BY u HAVING min(day) >= DATE '{first}')
            SELECT c.day, r.day - c.day, count(*) FROM c JOIN active r
            ON c.u = r.u AND r.day >= c.day AND r.day < c.day + {COLS} GROUP BY ALL""",
        # A user counts once for each cohort and bracket.
        "four brackets": f"""
            SELECT day, k, count(*) FROM (
                SELECT DISTINCT c.day, CASE {bracket} END AS k, c.u FROM active c JOIN active r
                ON c.u = r.u AND r.day > c.day AND r.day <= c.day + 30
                WHERE c.day >= DATE '{first}' AND r.day >= DATE '{first}')
            GROUP BY ALL""",
        "lifecycle of 90 days": f"""
            WITH m AS (SELECT day, lag(day) OVER (PARTITION BY u ORDER BY day) AS before FROM active),
            d AS (SELECT day, count(*) AS active, count(*) FILTER (before IS NULL) AS new,
                count(*) FILTER (before = day - 1) AS again, count(*) FILTER (before < day - 1) AS back
                FROM m GROUP BY day)
            SELECT day, active, new, again, back, lag(active) OVER (ORDER BY day) - again FROM d
            QUALIFY day >= DATE '{start}'""",
        "frequency of 28 days": f"""
            SELECT days, count(*) FROM (SELECT count(*) AS days FROM active WHERE day > DATE '{back(28)}' GROUP BY u)
            GROUP BY days""",
        # A mark counts in the windows from its day to the user's next mark, at most 28 of them.
        "rolling 28 days, 90 days": f"""
            WITH m AS (SELECT day, lead(day) OVER (PARTITION BY u ORDER BY day) - day AS gap FROM active),
            s AS (SELECT day, least(coalesce(gap, 28), 28) AS length, count(*) AS users FROM m GROUP BY ALL)
            SELECT e.day, sum(users) FROM s JOIN (SELECT DISTINCT day FROM s WHERE day >= DATE '{start}') e
            ON e.day >= s.day AND e.day < s.day + length::INTEGER GROUP BY e.day""",
    }
    return lambda name: db.execute(queries[name]).fetchall()


def chdb(made):
    """A groupBitmap state for each day, in memory, with two threads; raw marks where no bitmap function helps."""
    from chdb import session

    db = session.Session()
    db.query("SET max_threads = 2")
    db.query("CREATE DATABASE peers")
    db.query("CREATE TABLE peers.states (day Date32, users AggregateFunction(groupBitmap, UInt32)) ENGINE = Memory")
    source = f"file('{made.rows('active')}', Parquet, 'day Date32, user UInt32')"
    db.query(f"INSERT INTO peers.states SELECT day, groupBitmapState(user) FROM {source} GROUP BY day")
    db.query("CREATE TABLE peers.marks (user UInt32) ENGINE = Memory")
    db.query(f"INSERT INTO peers.marks SELECT user FROM {source} WHERE day > '{back(28)}'")
    first, start = back(ROWS - 1), back(89)
    seen = "groupBitmapMergeState(users) OVER (ORDER BY day ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    yesterday = "groupBitmapMergeState(users) OVER (ORDER BY day ROWS BETWEEN 1 PRECEDING AND 1 PRECEDING)"
    brackets = ", ".join(f"({a}, {b})" for a, b in BRACKETS)
    queries = {
        "first-time cohorts, 31 × 13": f"""
            SELECT c.day, dateDiff('day', c.day, r.day), bitmapAndCardinality(c.users, r.users) FROM (
                SELECT day, bitmapAndnot(users, seen) AS users FROM (SELECT day, users, {seen} AS seen FROM peers.states)
                WHERE day >= '{first}') c, peers.states r
            WHERE r.day >= c.day AND r.day < c.day + {COLS}""",
        "four brackets": f"""
            SELECT c.day, w.k, bitmapAndCardinality(c.users, w.users) FROM (SELECT * FROM peers.states WHERE day >= '{first}') c
            JOIN (SELECT s.day AS day, b.1 AS k, groupBitmapMergeState(r.users) AS users
                FROM (SELECT day, arrayJoin([{brackets}]) AS b FROM peers.states WHERE day >= '{first}') s, peers.states r
                WHERE r.day >= s.day + b.1 AND r.day <= s.day + b.2 GROUP BY day, k) w ON c.day = w.day""",
        "lifecycle of 90 days": f"""
            SELECT day, bitmapCardinality(users) AS active, active - bitmapAndCardinality(users, seen) AS new,
                bitmapAndCardinality(users, yesterday) AS again, active - new - again,
                bitmapCardinality(yesterday) - again
            FROM (SELECT day, users, {seen} AS seen, {yesterday} AS yesterday FROM peers.states)
            WHERE day >= '{start}'""",
        "frequency of 28 days": "SELECT days, count() FROM (SELECT count() AS days FROM peers.marks GROUP BY user) GROUP BY days",
        "rolling 28 days, 90 days": f"""
            SELECT day, people FROM (SELECT day,
                groupBitmapMerge(users) OVER (ORDER BY day ROWS BETWEEN 27 PRECEDING AND CURRENT ROW) AS people FROM peers.states)
            WHERE day >= '{start}'""",
    }
    return lambda name: json.loads(db.query(queries[name], "JSONCompact").bytes())["data"]


def main():
    parser = argparse.ArgumentParser(prog="benches/peers/run", description=__doc__)
    setting.add_users(parser)
    parser.add_argument("--rounds", type=int, default=3, help="how often everybody has a turn (default 3)")
    parser.add_argument("--only", default="", help="cohortist, duckdb, chdb; with commas between them")
    parser.add_argument("--markdown", action="store_true", help="the table as it stands in docs/performance.md")
    asked = parser.parse_args()
    who = set(filter(None, asked.only.split(",")))
    plan = ours.build()
    with contextlib.ExitStack() as stack:
        made = setting.marks_of(asked.users, days=DAYS)
        directory, socket, client = setting.filled_redis(stack, made)
        store = ours.embedded(directory, socket)()
        client.flushall()
        ways = {"cohortist": setting.held(stack, Library(plan, store))}
        for name, make in [("DuckDB", duckdb), ("chDB", chdb)]:
            if not who or name.lower() in who:
                ways[name] = setting.held(stack, Sql(make, made))
        times, agreed = {}, {}
        for turn in range(asked.rounds):
            for name, way in ways.items():
                print(f"reports: turn {turn + 1} of {asked.rounds}, {name}", flush=True)
                for question in QUESTIONS:
                    took, answer = way.ask(question)
                    # The first answer reads the bitmaps; the peers need no such turn, but get it too.
                    more = [way.ask(question)[0] for _ in range(9 if name == "cohortist" else 1)]
                    times.setdefault((name, question), []).extend(more)
                    agree(question, name, answer, agreed)
    medians = {key: statistics.median(took) for key, took in times.items()}
    print(f"\nall give the same {sum(len(rows) for _, rows in agreed.values())} rows of counts\n")
    print("| " + " | ".join(["", *ways, "times as fast"]) + " |\n" + "|---" * (len(ways) + 2) + "|")
    for question in QUESTIONS:
        all = [medians[name, question] for name in ways]
        factors = [factor(ms / all[0]) for ms in all[1:]]
        print(f"| {question} | {' | '.join(shown(ms) for ms in all)} | {' · '.join(factors)} |")
    missed = [f"{q} beside {n}" for (n, q), ms in medians.items() if n != "cohortist" and ms < GOAL * medians["cohortist", q]]
    print(f"\nwanted {GOAL} times: " + (f"NOT MET for {', '.join(missed)}" if missed else "met"))
    print(f"{setting.cpu()}, {multiprocessing.cpu_count()} threads; {asked.users:,} users")


def agree(question, name, answer, agreed):
    """Ends the program when two programs answer differently."""
    if not question.startswith("lifecycle"):
        answer = {row for row in answer if row[-1]}
    first, expected = agreed.setdefault(question, (name, answer))
    if answer != expected:
        some = sorted(answer ^ expected)[:6]
        raise SystemExit(f"{question}: {name} answers otherwise than {first}, such as {some}")


if __name__ == "__main__":
    main()
