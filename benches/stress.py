"""Heavy questions beside marks and cheap ones, many readers at once, and many large requests. `benches/stress` starts it."""

import argparse
import asyncio
import datetime
import http.client
import json
import multiprocessing
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time

TODAY = datetime.date(2026, 11, 23)
NOW = "2026-11-23T14:05:00Z"
TOKEN = "a-token-of-the-stress-test"
# Cohorts of which all columns are over.
ROWS = COLS = 141
DAYS = ROWS + COLS + 8

# What is wanted: in ms, and as a multiple of the median.
P99_MS, FAIR = 50, 3
# Twenty clients that send this much each.
CLIENTS, LARGE = 20, 100 << 20


def percentile(times, share):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * share))] * 1000 if times else float("nan")


class Server:
    """`cohortist serve` on a store."""

    def __init__(self, asked, store, *flags):
        command = [asked.program, "--store", store, *asked.flags.split(), "serve", "--listen", "127.0.0.1:0"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COHORTIST_")}
        environment |= {"COHORTIST_NOW": NOW, "COHORTIST_WRITE_TOKEN": TOKEN, "COHORTIST_LOG": "error"}
        self.process = subprocess.Popen(
            command + ["--resp", "127.0.0.1:0", *flags], stderr=subprocess.PIPE, text=True, env=environment
        )
        said = []
        for line in self.process.stderr:
            said.append(line)
            if found := re.match(r"Redis clients are served at redis://(\S+):(\d+)", line):
                self.resp = (found[1], int(found[2]))
            if found := re.match(r"cohortist is listening on http://(\S+):(\d+)", line):
                self.http = (found[1], int(found[2]))
                break
        else:
            raise SystemExit(f"it did not start: {''.join(said)}")
        threading.Thread(target=lambda: [None for _ in self.process.stderr], daemon=True).start()

    def peak(self):
        """The most memory it took, in MB."""
        with open(f"/proc/{self.process.pid}/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1000

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()


def command(*arguments):
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        argument = argument.encode() if isinstance(argument, str) else argument
        parts += [b"$%d\r\n" % len(argument), argument, b"\r\n"]
    return b"".join(parts)


def line_of(client):
    said = b""
    while not said.endswith(b"\r\n"):
        more = client.recv(1)
        if not more:
            break
        said += more
    return said.decode()


def fill(asked, directory):
    """A store in which one in sixteen is active each day, and 0.1 % sign up with the newest ids."""
    store = f"{directory}/store"
    size, daily = asked.users // 8, asked.users // 8000
    dice = random.Random(1)
    with Server(asked, store) as server, socket.create_connection(server.resp) as client:
        for back in range(DAYS):
            day = TODAY - datetime.timedelta(days=back)
            active = dice.getrandbits(size * 8)
            for _ in range(3):
                active &= dice.getrandbits(size * 8)
            end = max(daily, size - back * daily)
            signup = bytes(end - daily) + b"\xff" * daily
            for event, bits in [("active", active.to_bytes(size, "big")), ("signup", signup)]:
                client.sendall(command("SET", f"trackist_{event}_{day.year}-{day.month}-{day.day}", bits))
                assert line_of(client) == "+OK\r\n"
    return store


def ask(address, path, timeout=600):
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def heavy(number):
    """One of eight tables of 141 × 141 whole cells; every second one *on or after*."""
    first = TODAY - datetime.timedelta(days=DAYS - number)
    measure = "on_or_after" if number % 2 else "on"
    return f"/retention.json?cohort=active&returning=active&measure={measure}&from={first}&rows={ROWS}&cols={COLS}"


def ask_heavy(address, number, until, expected, results):
    while time.monotonic() < until:
        begun = time.monotonic()
        status, body = ask(address, heavy(number))
        right = status == 200 and json.loads(body)["rows"] == expected
        results.put((status, right, time.monotonic() - begun))
    results.put(None)


def probe(address, kind, until, results):
    """Something cheap each 10 ms, or as soon as the one before is answered; its time runs from when it was due."""
    connection = http.client.HTTPConnection(*address, timeout=600)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    times, due, user = [], time.monotonic(), 0
    while due < until:
        time.sleep(max(0, due - time.monotonic()))
        begun = max(due, time.monotonic() - 10)
        if kind == "mark":
            body = json.dumps({"event": "pulse", "user": user})
            connection.request("POST", "/api/v1/marks", body, {"Authorization": f"Bearer {TOKEN}"})
        else:
            path = {"count": f"/api/v1/count?set=signup@{TODAY}", "readyz": "/readyz"}[kind]
            connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (kind, answer.status, body)
        times.append(time.monotonic() - begun)
        user, due = user + 1, max(due + 0.01, time.monotonic())
    results.put((kind, times))


def stress(asked, store):
    print(f"\n8 questions of {ROWS} × {COLS} over {asked.users:,} ids, a mark each 10 ms, for {asked.seconds} s")
    met = True
    with Server(asked, store, "--remember-mb", "0") as server:
        began = time.monotonic()
        expected = [json.loads(ask(server.http, heavy(number))[1])["rows"] for number in range(8)]
        print(f"one alone takes {(time.monotonic() - began) / 8:.2f} s, with {server.peak():,.0f} MB at the most")
        until = time.monotonic() + asked.seconds
        answers, probes = multiprocessing.Queue(), multiprocessing.Queue()
        running = [
            multiprocessing.Process(target=ask_heavy, args=(server.http, number, until, expected[number], answers))
            for number in range(8)
        ]
        kinds = ["mark", "count", "readyz"]
        running += [multiprocessing.Process(target=probe, args=(server.http, kind, until, probes)) for kind in kinds]
        for process in running:
            process.start()
        times = dict(probes.get() for _ in kinds)
        left, got = 8, []
        while left:
            answer = answers.get()
            left, got = (left - 1, got) if answer is None else (left, got + [answer])
        for process in running:
            process.join()
        print("| | how many | median | p99 | slowest |\n|---|---|---|---|---|")
        for kind in kinds:
            own = times[kind]
            late = percentile(own, 0.99)
            met &= late < P99_MS
            print(f"| {kind} | {len(own):,} | {percentile(own, 0.5):.1f} ms | {late:.1f} ms | {max(own) * 1000:.0f} ms |")
        right = sum(right for _, right, _ in got)
        refused = sum(status == 503 for status, _, _ in got)
        met &= right == len(got) > 0
        took = [seconds for _, _, seconds in got]
        print(f"heavy answers: {len(got)}, right: {right}, refused: {refused}, median {percentile(took, 0.5):,.0f} ms")
        print(f"memory at the most: {server.peak():,.0f} MB")
    print(f"wanted: each p99 under {P99_MS} ms and all answers right: {'met' if met else 'NOT MET'}")
    return met


async def reader(address, paths, until, times):
    stream, sink = await asyncio.open_connection(*address)
    while time.monotonic() < until:
        path = next(paths)
        begun = time.monotonic()
        sink.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await stream.readuntil(b"\r\n\r\n")).decode().lower()
        if not head.startswith("http/1.1 200"):
            raise SystemExit(f"{path}: {head}")
        if length := re.search(r"content-length: (\d+)", head):
            await stream.readexactly(int(length[1]))
        else:
            while size := int(await stream.readline(), 16):
                await stream.readexactly(size + 2)
            await stream.readexactly(2)
        times.append(time.monotonic() - begun)
    sink.close()


def fairness(asked, store):
    connections, questions = 256, 200
    print(f"\n{connections} connections, {questions} different pages of 31 × 13, nothing remembered, for {asked.seconds} s")
    days = [TODAY - datetime.timedelta(days=back) for back in range(questions // 2)]
    every = [
        f"/retention?cohort={cohort}&returning=active&rows=31&cols=13&to={day}" for cohort in ["signup", "active"] for day in days
    ]
    random.Random(2).shuffle(every)

    async def readers(address):
        turn = iter(range(1 << 60))
        paths = (every[number % len(every)] for number in turn)
        times, began = [], time.monotonic()
        until = began + asked.seconds
        await asyncio.gather(*(reader(address, paths, until, times) for _ in range(connections)))
        return times, time.monotonic() - began

    with Server(asked, store, "--remember-mb", "0") as server:
        ask(server.http, every[0])
        times, took = asyncio.run(readers(server.http))
        middle, late = percentile(times, 0.5), percentile(times, 0.99)
        met = late <= FAIR * middle
        print(f"{len(times) / took:,.0f} pages a second, median {middle:.0f} ms, p99 {late:.0f} ms, {late / middle:.1f} times as much")
        print(f"memory at the most: {server.peak():,.0f} MB")
    print(f"wanted: a p99 of at most {FAIR} medians: {'met' if met else 'NOT MET'}")
    return met


def send_large(address, request, said):
    try:
        with socket.create_connection(address, timeout=120) as client:
            client.sendall(request)
            said.append(line_of(client))
    except OSError as error:
        said.append(f"{error}\r\n")


def memory(asked, directory):
    print(f"\n{CLIENTS} Redis clients send {LARGE >> 20} MiB each")
    requests = [command("SET", f"large-{number}", random.Random(number).randbytes(LARGE)) for number in range(CLIENTS)]
    with Server(asked, f"{directory}/large") as server:
        said, began = [], time.monotonic()
        sending = [threading.Thread(target=send_large, args=(server.resp, request, said)) for request in requests]
        for thread in sending:
            thread.start()
        for thread in sending:
            thread.join()
        done = sum(reply == "+OK\r\n" for reply in said)
        print(f"{done} were carried out in {time.monotonic() - began:.1f} s; the others were told:")
        for other in sorted({reply.strip() for reply in said if reply != "+OK\r\n"}) or ["nothing, there were none"]:
            print(f"  {other}")
        peak = server.peak()
    met = peak < asked.most
    print(f"memory at the most: {peak:,.0f} MB\nwanted: less than {asked.most:,} MB: {'met' if met else 'NOT MET'}")
    return met


def number(text):
    return int(float(text.rstrip("kM")) * {"k": 1000, "M": 1_000_000}.get(text[-1:], 1))


def main():
    parser = argparse.ArgumentParser(prog="benches/stress", description=__doc__)
    parser.add_argument("--users", type=number, default=10_000_000, help="such as 1M (default 10M)")
    parser.add_argument("--seconds", type=int, default=20, help="how long each part lasts (default 20)")
    parser.add_argument("--part", choices=["stress", "fairness", "memory"], action="append")
    parser.add_argument("--program", default="target/release/cohortist")
    parser.add_argument("--flags", default="--memory-mb 1024", help="for every server (default --memory-mb 1024)")
    parser.add_argument("--most", type=int, default=1300, help="MB that the server may take in the part on memory (default 1300)")
    asked = parser.parse_args()
    parts = asked.part or ["stress", "fairness", "memory"]
    directory = tempfile.mkdtemp(prefix="stress-")
    try:
        met = True
        if "stress" in parts or "fairness" in parts:
            began = time.monotonic()
            store = fill(asked, directory)
            print(f"{DAYS} days of {asked.users:,} ids were recorded in {time.monotonic() - began:.0f} s")
        for part in parts:
            met &= {"stress": stress, "fairness": fairness}[part](asked, store) if part != "memory" else memory(asked, directory)
        raise SystemExit(0 if met else 1)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
