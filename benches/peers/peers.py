"""The peers, each as the one function that answers a question: `answer("signup")` is the grid of sign-up → active.

A grid is a list of cohorts, the oldest first: the cohort's size, then the count of each column that has begun.
"""

import datetime
import json

from marks import COLS, ROWS, TODAY, live

FIRST = TODAY - datetime.timedelta(days=ROWS - 1)


def bitmapist(connect):
    """bitmapist's own cohort table. Its process does nothing else; its client and its Redis are on this machine."""
    import bitmapist
    import bitmapist.cohort

    bitmapist.SYSTEMS["default"] = connect()

    def answer(cohort):
        rows = bitmapist.cohort.get_dates_data(
            cohort,
            "active",
            time_group="days",
            as_percent=False,
            num_results=ROWS,
            num_of_rows=COLS - 1,
            start_date=FIRST.isoformat(),
        )
        # "" is what it shows for a column that has not begun, and for one in which nobody was active at all.
        return [[row[1], *[int(cell or 0) for cell in row[2 : 2 + live(i)]]] for i, row in enumerate(rows)]

    return answer


def pipeline(connect):
    """What bitmapist asks, in one round trip: an AND and a count for each cell. No client of Redis could ask less of it."""
    redis = connect()

    def key(event, day):
        return f"trackist_{event}_{day.year}-{day.month}-{day.day}"

    def answer(cohort):
        asked = redis.pipeline(transaction=False)
        for i in range(ROWS):
            day = FIRST + datetime.timedelta(days=i)
            asked.bitcount(key(cohort, day))
            for k in range(live(i)):
                asked.bitop("AND", "trackist_bitop_peer", key(cohort, day), key("active", day + datetime.timedelta(days=k)))
                asked.bitcount("trackist_bitop_peer")
        asked.delete("trackist_bitop_peer")
        replies = iter(asked.execute())
        grid = []
        for i in range(ROWS):
            row = [next(replies)]
            for _ in range(live(i)):
                next(replies)
                row.append(next(replies))
            grid.append(row)
        return grid

    return answer


def gridded(sizes, cells):
    """A grid of (day, size) and (day, column, count); what is in neither is 0."""
    grid = [[0] * (1 + live(i)) for i in range(ROWS)]
    for day, size in sizes:
        grid[(day - FIRST).days][0] = int(size)
    for day, column, count in cells:
        grid[(day - FIRST).days][1 + int(column)] = int(count)
    return grid


def duckdb(marks):
    """A join of raw marks, of which each is there once, in memory and with two threads."""
    import duckdb

    db = duckdb.connect(config={"threads": 2})
    for event in ["signup", "active"]:
        db.execute(f"CREATE TABLE {event} AS SELECT day, \"user\" FROM read_parquet('{marks.rows(event)}') ORDER BY day, \"user\"")

    def answer(cohort):
        sizes = db.execute(f"SELECT day, count(*) FROM {cohort} GROUP BY day").fetchall()
        cells = db.execute(
            f"SELECT c.day, r.day - c.day, count(*) FROM {cohort} c JOIN active r "
            f"ON c.\"user\" = r.\"user\" AND r.day >= c.day AND r.day < c.day + {COLS} GROUP BY ALL"
        ).fetchall()
        return gridded(sizes, cells)

    return answer


def chdb(marks):
    """ClickHouse's bitmaps: a groupBitmap state for each event and day, in memory and with two threads."""
    from chdb import session

    db = session.Session()
    db.query("SET max_threads = 2")
    db.query("CREATE DATABASE peers")
    db.query(
        "CREATE TABLE peers.states (event String, day Date32, users AggregateFunction(groupBitmap, UInt32)) ENGINE = Memory"
    )
    for event in ["signup", "active"]:
        db.query(
            f"INSERT INTO peers.states SELECT '{event}', day, groupBitmapState(user) "
            f"FROM file('{marks.rows(event)}', Parquet, 'day Date32, user UInt32') GROUP BY day"
        )

    def asked(query):
        found = json.loads(db.query(query, "JSONCompact").bytes())["data"]
        return [[datetime.date.fromisoformat(day), *rest] for day, *rest in found]

    def answer(cohort):
        sizes = asked(f"SELECT day, bitmapCardinality(users) FROM peers.states WHERE event = '{cohort}'")
        cells = asked(
            "SELECT c.day, dateDiff('day', c.day, r.day), bitmapAndCardinality(c.users, r.users) "
            f"FROM (SELECT day, users FROM peers.states WHERE event = '{cohort}') c, "
            "(SELECT day, users FROM peers.states WHERE event = 'active') r "
            f"WHERE r.day >= c.day AND r.day < c.day + {COLS}"
        )
        return gridded(sizes, cells)

    return answer


def croaring(marks):
    """CRoaring through pyroaring: one call in C for each cell, on one thread, as its bitmaps hold Python's lock."""
    import pyarrow.compute
    import pyarrow.parquet
    from pyroaring import BitMap

    def bitmaps(event):
        days = {FIRST + datetime.timedelta(days=i): BitMap() for i in range(ROWS)}
        table = pyarrow.parquet.read_table(marks.rows(event))
        for day in days:
            users = table.filter(pyarrow.compute.field("day") == day)["user"].to_numpy()
            days[day] = BitMap(users)
            days[day].run_optimize()
            days[day].shrink_to_fit()
        return [days[FIRST + datetime.timedelta(days=i)] for i in range(ROWS)]

    held = {event: bitmaps(event) for event in ["signup", "active"]}

    def answer(cohort):
        rows, returning = held[cohort], held["active"]
        return [[len(who), *[who.intersection_cardinality(returning[i + k]) for k in range(live(i))]] for i, who in enumerate(rows)]

    return answer
