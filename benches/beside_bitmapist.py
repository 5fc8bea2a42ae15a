"""bitmapist and cohortist on one Redis, in turn, in one run: 10 M users, 31 daily cohorts x 13 columns.

    pip install bitmapist
    cargo build --release && python3 benches/beside_bitmapist.py target/release/cohortist

Prints medians in milliseconds; cohortist's include starting its process. Fails when the two tables differ.
"""

import csv
import datetime
import io
import random
import statistics
import subprocess
import sys
import tempfile
import time

import bitmapist
import bitmapist.cohort
import redis

USERS, DAYS, ACTIVE, SIGNUPS = 10_000_000, 31, 570_000, 10_000
NOW = datetime.datetime(2026, 10, 31, 18)


def bitmap(users):
    bits = bytearray(max(users) // 8 + 1)
    for user in users:
        bits[user // 8] |= 0x80 >> (user % 8)
    return bytes(bits)


def fill(connection):
    for back in range(DAYS):
        day = NOW - datetime.timedelta(days=back)
        stamp = f"{day.year}-{day.month}-{day.day}"
        dice = random.Random(back)
        newest = USERS - back * SIGNUPS
        connection.set(f"trackist_active_{stamp}", bitmap([dice.randrange(USERS) for _ in range(ACTIVE)]))
        connection.set(f"trackist_signup_{stamp}", bitmap(range(newest - SIGNUPS, newest)))


def timed(work, rounds=7):
    work()
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        answer = work()
        took.append((time.perf_counter() - start) * 1000)
    return statistics.median(took), answer


def theirs(cohort):
    first = (NOW - datetime.timedelta(days=DAYS - 1)).strftime("%Y-%m-%d")
    rows = bitmapist.cohort.get_dates_data(
        cohort, "active", time_group="days", as_percent=False, num_results=DAYS, num_of_rows=12, start_date=first
    )
    return [[row[1], *[cell for cell in row[2:] if cell != ""]] for row in rows]


def ours(program, url, cohort):
    command = [program, "--store", url, "--now", "2026-10-31T18:00:00Z", "retention", cohort, "active"]
    command += ["--rows", str(DAYS), "--cols", "13", "--format", "csv", "--as", "count"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [[int(cell) for cell in row[1:] if cell] for row in list(csv.reader(io.StringIO(out)))[1:]]


def main():
    with tempfile.TemporaryDirectory() as directory:
        socket = f"{directory}/redis.sock"
        server = subprocess.Popen(
            ["redis-server", "--port", "0", "--save", "", "--unixsocket", socket, "--dir", directory],
            stdout=subprocess.DEVNULL,
        )
        try:
            connection = redis.Redis(unix_socket_path=socket)
            while True:
                try:
                    connection.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            fill(connection)
            bitmapist.SYSTEMS["default"] = connection
            for cohort in ["signup", "active"]:
                slow, expected = timed(lambda: theirs(cohort))
                fast, table = timed(lambda: ours(sys.argv[1], f"redis+unix://{socket}", cohort))
                cells = [[int(cell) for cell in row if cell is not None] for row in expected]
                assert [row[: len(mine)] for row, mine in zip(cells, table)] == table, "the tables differ"
                print(f"{cohort} -> active: bitmapist {slow:.0f} ms, cohortist {fast:.0f} ms, {slow / fast:.1f} times")
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
