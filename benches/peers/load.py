"""Many readers of one page at once, with wrk, and marks through the listener. `benches/peers/load` starts it."""

import argparse
import contextlib
import re
import shutil
import subprocess
import time

import marks
import ours
import setting

# What is wanted of a page whose counts are remembered, at 64 connections.
PAGES_A_SECOND, P99_MS = 2000, 20
# As many as are due, but for those still under way when time is up.
KEPT = 0.995
# How much more memory at the end than after the first tenth is still flat.
GROWTH = 1.1


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]


# Both tables in turn. At a rate, each request has its own time, whatever the answers before it took; a connection that is free
# takes the next one, and waits until it is due.
SCRIPT = """
local ffi = require("ffi")
ffi.cdef("struct clock { long seconds, nanoseconds; }; int clock_gettime(int, struct clock *);")
local clock = ffi.new("struct clock")
local function now()
    ffi.C.clock_gettime(1, clock)
    return tonumber(clock.seconds) * 1000 + tonumber(clock.nanoseconds) / 1e6
end
local paths, asked = { "%s", "%s" }, 0
function request()
    asked = asked + 1
    return wrk.format(nil, paths[asked %% 2 + 1])
end
local apart, due = %f, nil
if apart > 0 then
    function delay()
        due = (due or now()) + apart
        return math.max(0, math.floor(due - now() + 0.5))
    end
end
"""


def readers(server, directory, connections, seconds, packing, rate=None):
    """wrk's pages a second, median and 99th percentile in ms, and the server's memory in MB every second.

    Without a `rate` each connection asks again as soon as it is answered; with one, all together ask so often a second.
    """
    paths = [ours.address(cohort, "/retention") for cohort in marks.EVENTS]
    with open(f"{directory}/readers.lua", "w") as script:
        script.write(SCRIPT % (*paths, 1000 / rate if rate else 0))
    command = ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--latency"]
    command += ["--script", script.name, "--header", f"Accept-Encoding: {packing}", f"http://{server.address}"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    memory = []
    while running.poll() is None:
        memory.append(server.memory())
        time.sleep(1)
    said = running.stdout.read()
    if running.returncode or any(trouble in said for trouble in ["Non-2xx", "Socket errors", "readers.lua:"]):
        raise SystemExit(f"not all pages were answered\n{said}")
    at = {share: milliseconds(re.search(rf"^ +{share}% +(\S+)$", said, re.M)[1]) for share in (50, 99)}
    return float(re.search(r"Requests/sec: +([\d.]+)", said)[1]), at[50], at[99], memory


def main():
    parser = argparse.ArgumentParser(prog="benches/peers/load", description=__doc__)
    setting.add_users(parser)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--minutes", type=float, default=1, help="for how long in all pages are asked for (default 1)")
    parser.add_argument("--no-marks", action="store_true", help="leave out the marks through the listener")
    asked = parser.parse_args()
    if not shutil.which("wrk"):
        raise SystemExit("wrk is not installed: apt-get install wrk")
    ours.build()
    with contextlib.ExitStack() as stack:
        directory, socket, _ = setting.filled_redis(stack, setting.marks_of(asked.users))
        stores = {"embedded": ours.embedded(directory, socket)(), "Redis store": f"redis+unix://{socket}"}
        servers = {name: setting.held(stack, ours.Server(store)) for name, store in stores.items()}
        pages = [
            (name, packing, rate) for name in servers for packing in ("identity", "gzip") for rate in (None, PAGES_A_SECOND)
        ]
        seconds = max(3, round(asked.minutes * 60 / len(pages)))
        print(f"{asked.connections} connections, {seconds} s each, all counts remembered\n")
        print("| pages of 31 × 13 | asked for | pages a second | median | p99 | memory after a tenth, and at the end |")
        print("|---|---|---|---|---|---|")
        flat = met = True
        for server in servers.values():
            readers(server, directory, asked.connections, 3, "gzip")
        for name, packing, rate in pages:
            got, median, late, memory = readers(servers[name], directory, asked.connections, seconds, packing, rate)
            early, end = max(memory[: len(memory) // 10 + 1]), memory[-1]
            flat &= end <= early * GROWTH
            if rate:
                met &= got >= rate * KEPT and late < P99_MS
            how = f"{rate:,} a second" if rate else "without a break"
            packed = "as it is" if packing == "identity" else packing
            print(
                f"| {name}, {packed} | {how} | {got:,.0f} | {median:.1f} ms | {late:.1f} ms | {early:.0f} MB, {end:.0f} MB |",
                flush=True,
            )
        print(f"\nwanted: {PAGES_A_SECOND:,} pages a second with a p99 under {P99_MS} ms: {'met' if met else 'NOT MET'}")
        print(f"wanted: memory that stays within {GROWTH:.0%} of what it was: {'met' if flat else 'NOT MET'}")
    if not asked.no_marks:
        print("\nmarks a second through the listener (benches/marks.rs):", flush=True)
        subprocess.run(["cargo", "bench", "--quiet", "--bench", "marks"], check=True)
    print(f"\n{setting.cpu()}; wrk and the server on the same threads")


if __name__ == "__main__":
    main()
