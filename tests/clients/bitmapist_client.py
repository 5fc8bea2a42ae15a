"""The Python package bitmapist, unchanged, on cohortist's listener and on a real Redis, side by side.

    scripts/test --clients

runs this with the built program; by hand: pip install -r tests/clients/requirements.txt, then
python3 tests/clients/bitmapist_client.py target/debug/cohortist. Every answer must be the same on both; the numbers on the
dashboard's page must follow.
"""

import datetime
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import bitmapist
import bitmapist.cohort
import redis

NOW = datetime.datetime(2026, 11, 23, 14, 5)
EVENTS = ["active", "signup", "song:played", "plan_pro", "weird*[name]?"]


def marks(system):
    dice = random.Random(7)
    for _ in range(400):
        event, user = dice.choice(EVENTS), dice.choice([dice.randrange(300), dice.randrange(1 << 27)])
        when = NOW - datetime.timedelta(hours=dice.randrange(24 * 90))
        bitmapist.mark_event(event, user, system=system, now=when, track_hourly=True)
    for user in range(0, 300, 7):
        bitmapist.mark_unique("premium", user, system=system)
    bitmapist.mark_unique("premium", 4294967295, system=system)
    bitmapist.unmark_event("active", 5, system=system, now=NOW)
    bitmapist.unmark_unique("premium", 14, system=system)


def answers(system):
    """Everything a user of the package asks, as plain data."""
    # Operations and their temporary keys are of the default system.
    bitmapist.SYSTEMS["default"] = bitmapist.SYSTEMS[system]
    days = [NOW - datetime.timedelta(days=n) for n in range(30)]
    day = lambda event, when: bitmapist.DayEvents.from_date(event, when, system)
    month = lambda event, when: bitmapist.MonthEvents.from_date(event, when, system)
    year = lambda event: bitmapist.YearEvents(event, NOW.year, system)
    yield sorted(bitmapist.get_event_names(system))
    yield sorted(bitmapist.get_event_names(system, prefix="s"))
    for event in EVENTS:
        yield [len(day(event, when)) for when in days]
        yield [sorted(day(event, when)) for when in days[:5]]
        yield len(bitmapist.WeekEvents.from_date(event, NOW, system)), len(month(event, NOW))
        yield len(bitmapist.HourEvents.from_date(event, NOW, system))
        # A year is an operation on twelve months.
        yield len(year(event)), [user in year(event) for user in range(0, 300, 50)]
        yield day(event, NOW).has_events_marked()
    premium = bitmapist.UniqueEvents("premium", system)
    yield [user in premium for user in (0, 7, 14, 15, 4294967295)]
    active, signup, song = (month(event, NOW) for event in ("active", "signup", "song:played"))
    for made in (active & signup, active | signup, active ^ signup, ~active & song, (active | signup) & ~(song ^ signup)):
        yield len(made), sorted(made)[:50], 7 in made
    for group, rows in (("days", 10), ("weeks", 6), ("months", 3)):
        table = bitmapist.cohort.get_dates_data(
            "active", "song:played", time_group=group, system=system, as_percent=False, num_results=rows, num_of_rows=4,
            start_date="2026-09-01",
        )
        # Each row begins with the moment it was asked.
        yield [row[1:] for row in table]
    bitmapist.delete_runtime_bitop_keys()
    yield sorted(key.decode() for key in bitmapist.get_redis(system).keys("*") if b"bitop" not in key)
    client = bitmapist.get_redis(system)
    yield sorted(key.decode() for key in client.scan_iter(match="trackist_weird[*][[]*", count=50))
    pipe = client.pipeline()
    pipe.setbit("trackist_active_2026-11-23", 77, 1).bitcount("trackist_active_2026-11-23").getbit("none", 1)
    yield pipe.execute()
    pipe = client.pipeline(transaction=False)
    pipe.strlen("trackist_premium_u").ttl("trackist_premium_u").type("trackist_premium_u").exists("none")
    yield pipe.execute()
    client.expire("trackist_plan_pro_2026-11", 1000)
    yield client.ttl("trackist_plan_pro_2026-11") in (999, 1000), client.persist("trackist_plan_pro_2026-11")


def started(command, pattern, stream, directory):
    child = subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found = {}
    for line in getattr(child, stream):
        for name, expression in pattern.items():
            match = re.search(expression, line)
            if match:
                found[name] = match.group(1)
        if len(found) == len(pattern):
            return child, found
    child.wait()
    raise SystemExit(f"{command[0]} did not start")


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as directory:
        listening = {"resp": r"served at redis://127\.0\.0\.1:(\d+)", "web": r"listening on (http://\S+)"}
        ours, said = started(
            [program, "--store", f"{directory}/store", "--now", "2026-11-23T14:05:00Z", "serve", "--listen", "127.0.0.1:0",
             "--resp", "127.0.0.1:0"], listening, "stderr", directory)
        socket = f"{directory}/redis.sock"
        theirs = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", socket, "--save", ""], stdout=subprocess.DEVNULL)
        try:
            bitmapist.setup_redis("ours", "127.0.0.1", int(said["resp"]))
            bitmapist.SYSTEMS["theirs"] = redis.StrictRedis(unix_socket_path=socket)
            for _ in range(100):
                try:
                    bitmapist.SYSTEMS["theirs"].ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            for system in ("ours", "theirs"):
                marks(system)
            number = 0
            for number, (a, b) in enumerate(zip(list(answers("ours")), list(answers("theirs")), strict=True), 1):
                assert a == b, f"answer {number}:\n  cohortist {a}\n  redis     {b}"
            address = said["web"] + "/retention.json?cohort=active&returning=active&by=month&rows=1&cols=1"
            table = json.load(urllib.request.urlopen(address))
            expected = bitmapist.SYSTEMS["theirs"].bitcount("trackist_active_2026-11")
            assert table["rows"][0]["size"] == expected, (table["rows"][0], expected)
            three = redis.StrictRedis(host="127.0.0.1", port=int(said["resp"]), protocol=3)
            assert three.get("none") is None and three.bitcount("trackist_active_2026-11") == expected
            print(f"bitmapist {number} answers, the same on cohortist and on Redis; the page says {expected} as well")
        finally:
            for child in (ours, theirs):
                child.kill()
                child.wait()


if __name__ == "__main__":
    main()
