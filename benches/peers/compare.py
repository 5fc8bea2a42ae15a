"""Asks everybody in turn, several times over, compares the grids, and prints the table. `benches/peers/run` starts it."""

import argparse
import contextlib
import multiprocessing
import statistics
import subprocess
import time

import marks
import ours
import peers
import setting

# What is wanted of cohortist with 10 M users, as factors of a peer's time in the same run: (ours, peer, sign-up → active,
# active → active).
GOALS = [
    ("embedded, library", "bitmapist on Redis", 2000, 40),
    ("embedded, library", "chDB", 50, 10),
    ("embedded, process just started", "bitmapist on Redis", 5, 5),
    ("Redis store, library, nothing remembered", "bitmapist on Redis", 4, 4),
    ("Redis store, the page, seen before", "bitmapist on Redis", 300, 300),
]


# And what another client of its Redis may wait for a GET meanwhile, in all but one case of a hundred.
P99_MS = 5


def connector(where):
    import redis

    if where.startswith("/"):
        return redis.Redis(unix_socket_path=where)
    host, port = where.rsplit(":", 1)
    return redis.Redis(host=host, port=int(port))


def peer(pipe, name, *arguments):
    """A process that answers as one peer and takes the time itself."""
    arguments = [(lambda: connector(argument)) if isinstance(argument, str) else argument for argument in arguments]
    answer = getattr(peers, name)(*arguments)
    pipe.send("ready")
    while (cohort := pipe.recv()) is not None:
        began = time.perf_counter()
        grid = answer(cohort)
        pipe.send(((time.perf_counter() - began) * 1000, grid))


class Peer:
    def __init__(self, name, *arguments):
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=peer, args=(theirs, name, *arguments))
        self.process.start()
        theirs.close()
        assert self.pipe.recv() == "ready"

    def way(self):
        def answer(cohort):
            self.pipe.send(cohort)
            return self.pipe.recv()

        return answer, lambda cohort, grid: grid

    def close(self):
        self.pipe.send(None)
        self.process.join()


def bystander(pipe, socket):
    """A client of Redis with other business: it gets a small value a thousand times a second, from "go" to "stop"."""
    redis = connector(socket)
    pipe.send("ready")
    while pipe.recv() == "go":
        took = []
        while not pipe.poll():
            began = time.perf_counter()
            redis.get("another:key")
            took.append((time.perf_counter() - began) * 1000)
            time.sleep(0.001)
        pipe.recv()
        pipe.send(took)


def visit(way, cohort, least=5, seconds=0.4, most=200):
    """The times of some answers, after one that does not count, and the grid."""
    answer, grid = way
    _, given = answer(cohort)
    times, began = [], time.perf_counter()
    while len(times) < least or (time.perf_counter() - began < seconds and len(times) < most):
        took, given = answer(cohort)
        times.append(took)
    return times, grid(cohort, given)


def in_turn(ways, rounds, what=""):
    """The times of all ways, by way and cohort, asked in turn; ends the program when two of them answer differently."""
    times = {(name, cohort): [] for name in ways for cohort in marks.EVENTS}
    agreed = {}
    for turn in range(rounds):
        print(f"{what}turn {turn + 1} of {rounds}", flush=True)
        for name, way in ways.items():
            for cohort in marks.EVENTS:
                took, grid = visit(way, cohort)
                times[name, cohort] += took
                first, expected = agreed.setdefault(cohort, (name, grid))
                if grid != expected:
                    raise SystemExit(f"{what}{cohort} → active: {name} answers otherwise than {first}")
    return times


def waits(pipe, work):
    """What a bystander waits for each of its GETs while some work is done: median, 99th percentile, most; and how many."""
    pipe.send("go")
    began = time.perf_counter()
    while time.perf_counter() - began < 4:
        work()
    pipe.send("stop")
    took = sorted(pipe.recv())
    return statistics.median(took), took[len(took) * 99 // 100], took[-1], len(took)


def shown(ms):
    return f"{ms:.3g}" if ms < 1000 else f"{ms:.0f}"


def factor(times):
    return f"{times:,.0f}" if times >= 10 else f"{times:.2g}"


def main():
    parser = argparse.ArgumentParser(prog="benches/peers/run", description=__doc__)
    setting.add_users(parser)
    parser.add_argument("--rounds", type=int, default=3, help="how often everybody has a turn (default 3)")
    parser.add_argument("--only", default="", help="cohortist, bitmapist, pipeline, duckdb, chdb; with commas between them")
    parser.add_argument("--markdown", action="store_true", help="the table as it stands in docs/performance.md")
    asked = parser.parse_args()
    who = set(filter(None, asked.only.split(","))) or {"cohortist", "bitmapist", "pipeline", "duckdb", "chdb"}

    plan = ours.build()
    with contextlib.ExitStack() as stack:
        made = setting.marks_of(asked.users)
        directory, socket, client = setting.filled_redis(stack, made)
        client.set("another:key", "value")
        url = f"redis+unix://{socket}"

        def held(thing):
            return setting.held(stack, thing)

        ways = {}
        if "bitmapist" in who:
            ways["bitmapist on Redis"] = held(Peer("bitmapist", socket)).way()
        if "pipeline" in who:
            ways["one pipeline of the same ANDs on Redis"] = held(Peer("pipeline", socket)).way()
        if "duckdb" in who:
            ways["DuckDB, a join of raw marks"] = held(Peer("duckdb", made)).way()
        if "chdb" in who:
            ways["chDB"] = held(Peer("chdb", made)).way()
        if "cohortist" in who:
            another = ours.embedded(directory, socket)
            forgetful = held(ours.Server(another(), "--remember-mb", "0", "--resp", "127.0.0.1:0"))
            mindful, redis_forgetful = held(ours.Server(another())), held(ours.Server(url, "--remember-mb", "0"))
            redis_mindful = held(ours.Server(url))
            library = held(ours.Library(plan, another()))
            ways["embedded, library"] = library.way("warm")
            ways["embedded, library, store just opened"] = library.way("cold")
            ways["embedded, process just started"] = ours.command_line(another())
            ways["embedded, /retention.json, nothing remembered"] = ours.over_http(forgetful)
            ways["embedded, /retention.json, seen before"] = ours.over_http(mindful)
            ways["embedded, the page, seen before"] = ours.over_http(mindful, "/retention")
            if "bitmapist" in who:
                ways["bitmapist on cohortist's listener"] = held(Peer("bitmapist", forgetful.redis)).way()
            ways["Redis store, library, nothing remembered"] = held(ours.Library(plan, url)).way("warm")
            ways["Redis store, process just started"] = ours.command_line(url)
            ways["Redis store, /retention.json, nothing remembered"] = ours.over_http(redis_forgetful)
            ways["Redis store, /retention.json, seen before"] = ours.over_http(redis_mindful)
            ways["Redis store, the page, seen before"] = ours.over_http(redis_mindful, "/retention")
            cluster = ours.copied(socket, stack.enter_context(ours.redis_cluster(directory)))
            ways["cluster of 3 primaries, library, nothing remembered"] = held(ours.Library(plan, cluster)).way("warm")
            ways["cluster of 3 primaries, the page, seen before"] = ours.over_http(held(ours.Server(cluster)), "/retention")

        times = in_turn(ways, asked.rounds)
        cells = sum(marks.live(i) for i in range(marks.ROWS))
        print(f"all {len(ways)} ways give the same {cells} counts and {marks.ROWS} sizes, for both questions\n")
        medians = {key: statistics.median(took) for key, took in times.items()}
        table(ways, medians, times, asked.markdown)
        goals(medians, asked.users)
        others(stack, socket, ways)
    print(f"\n{setting.cpu()}, {multiprocessing.cpu_count()} threads; {version('redis-server')}; {asked.users:,} users")


def version(program):
    return " ".join(subprocess.run([program, "--version"], capture_output=True, text=True).stdout.split()[:3])


def table(ways, medians, times, markdown):
    base = "bitmapist on Redis"
    print("| median of all answers in ms (least–most) | sign-up → active | active → active | times as fast as bitmapist |")
    print("|---|---|---|---|")
    for name in ways:
        columns, factors = [], []
        for cohort in marks.EVENTS:
            took, ms = times[name, cohort], medians[name, cohort]
            spread = "" if markdown else f" ({shown(min(took))}–{shown(max(took))})"
            columns.append(f"{shown(ms)}{spread}")
            if (base, cohort) in medians:
                factors.append(factor(medians[base, cohort] / ms))
        print(f"| {name} | {' | '.join(columns)} | {' · '.join(factors)} |")


def met(is_met):
    return "met" if is_met else "NOT MET"


def goals(medians, users):
    print("" if users == 10_000_000 else "\n(what is wanted is wanted of 10 M users)")
    for mine, theirs, *least in GOALS:
        for cohort, factor in zip(marks.EVENTS, least):
            if (mine, cohort) in medians and (theirs, cohort) in medians:
                times = medians[theirs, cohort] / medians[mine, cohort]
                said = f"{cohort} → active: {mine} is {times:,.1f} times as fast as {theirs}"
                print(f"{said}; wanted {factor:,}: {met(times >= factor)}")


def others(stack, socket, ways):
    """What other clients of that Redis feel of it."""
    pipe, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=bystander, args=(theirs, socket))
    process.start()
    stack.callback(process.join)
    stack.callback(lambda: pipe.send("end"))
    assert pipe.recv() == "ready"
    print("\nA GET by another client of that Redis, once a millisecond, while the table is asked for again and again:")
    asked = ["bitmapist on Redis", "one pipeline of the same ANDs on Redis", "Redis store, library, nothing remembered"]
    for name in ["nobody", *asked]:
        for cohort in marks.EVENTS:
            if name == "nobody":
                median, late, most, count = waits(pipe, lambda: time.sleep(0.1))
            elif name in ways:
                median, late, most, count = waits(pipe, lambda: ways[name][0](cohort))
            else:
                continue
            goal = f"; wanted {P99_MS} ms: {met(late < P99_MS)}" if name.startswith("Redis store") else ""
            print(
                f"{name}, {cohort} → active: median {median:.2f} ms, p99 {late:.2f} ms, most {most:.1f} ms of {count} GETs{goal}"
            )


if __name__ == "__main__":
    main()
