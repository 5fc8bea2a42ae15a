"""The 31 × 13 table at every density, beside other bitmaps. `benches/peers/sweep` starts it."""

import argparse
import contextlib
import multiprocessing
import os
import statistics
import subprocess

import marks
import ours
import setting
from compare import Peer, in_turn, shown

# How much of all users is active each day, in percent. A container of roaring turns from a list to words at 6.25 %.
DENSITIES = [0.1, 1, 3, 5.7, 6.25, 10, 25]

# What is wanted of cohortist: this many times as fast as chDB at every density, for active → active.
GOAL = 15

OURS, CHDB = "embedded, library", "chDB"


def roaring():
    """The program around the `roaring` crate, compiled for this very processor; its path is returned."""
    target = "target/peers/roaring"
    command = ["cargo", "build", "--release", "--quiet", "--manifest-path", "benches/peers/roaring/Cargo.toml"]
    environment = {**os.environ, "RUSTFLAGS": "-C target-cpu=native", "CARGO_TARGET_DIR": target}
    subprocess.run(command, check=True, env=environment)
    return f"{target}/release/roaring-peer"


def main():
    parser = argparse.ArgumentParser(prog="benches/peers/sweep", description=__doc__)
    setting.add_users(parser)
    parser.add_argument("--rounds", type=int, default=3, help="how often everybody has a turn (default 3)")
    parser.add_argument("--only", default="", help="cohortist, chdb, croaring, roaring; with commas between them")
    parser.add_argument("--densities", default="", help="in percent, with commas between them (default %s)" % DENSITIES)
    asked = parser.parse_args()
    who = set(filter(None, asked.only.split(","))) or {"cohortist", "chdb", "croaring", "roaring"}
    densities = [float(text) for text in asked.densities.split(",") if text] or DENSITIES

    plan = ours.build() if "cohortist" in who else None
    native = roaring() if "roaring" in who else None
    lines, worst = [], None
    for percent in densities:
        medians = measured(asked, who, percent, plan, native)
        lines += table(percent, medians)
        if (OURS, "active") in medians and (CHDB, "active") in medians:
            factor = medians[CHDB, "active"] / medians[OURS, "active"]
            worst = min(worst or (factor, percent), (factor, percent))
    print("\n| active each day | median of all answers in ms | sign-up → active | active → active | times as fast |")
    print("|---|---|---|---|---|")
    print("\n".join(lines))
    if worst:
        met = "met" if worst[0] >= GOAL else "NOT MET"
        print(f"\nactive → active: at least {worst[0]:.1f} times as fast as chDB, at {worst[1]:g} %; wanted {GOAL}: {met}")
    print(f"\n{setting.cpu()}, {multiprocessing.cpu_count()} threads; {asked.users:,} users")


def measured(asked, who, percent, plan, native):
    """The median times at a density, by way and cohort, of ways that all give the same counts."""
    with contextlib.ExitStack() as stack:
        made = setting.marks_of(asked.users, percent)

        def held(thing):
            return setting.held(stack, thing)

        ways = {}
        if "cohortist" in who:
            directory, socket, client = setting.filled_redis(stack, made)
            another = ours.embedded(directory, socket)
            client.flushall()
            ways[OURS] = held(ours.Library(plan, another())).way("warm")
        if "chdb" in who:
            ways[CHDB] = held(Peer("chdb", made)).way()
        if "croaring" in who:
            ways["CRoaring, one thread"] = held(Peer("croaring", made)).way()
        if "roaring" in who:
            ways["roaring for this processor"] = held(ours.Library(native, f"{made.directory}/bitmaps")).way("warm")
        times = in_turn(ways, asked.rounds, f"{percent:g} %: ")
        return {key: statistics.median(took) for key, took in times.items()}


def table(percent, medians):
    """A line for each way: its medians, and how many times as fast cohortist is."""
    lines = []
    for name in dict.fromkeys(name for name, _ in medians):
        columns = [shown(medians[name, cohort]) for cohort in marks.EVENTS]
        factors = [f"{medians[name, c] / medians[OURS, c]:.1f}" for c in marks.EVENTS if (OURS, c) in medians]
        lines.append(f"| {percent:g} % | {name} | {' | '.join(columns)} | {' · '.join(factors)} |")
    return lines


if __name__ == "__main__":
    main()
