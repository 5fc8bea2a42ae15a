"""Disk, memory, writes, latency and start of the embedded store, beside redis-server. `benches/store` starts it."""

import argparse
import array
import datetime
import http.client
import json
import mmap
import multiprocessing
import operator
import os
import random
import re
import select
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

MB = 1_000_000
KEPT = "target/store-bench"
EVENTS, USERS = 50, 200_000

# 60 days that touch 9 weeks and 2 months: with 50 events 3,550 bitmaps.
FIRST_DAY = datetime.date(2024, 7, 1)
DAYS = 60
NOW = "2024-08-30T00:00:00Z"
# 1,095 days, 157 weeks and 36 months: with 300 events 386,400 bitmaps, with 1,000 events 1.3 M.
FIRST_YEAR, YEARS = 2021, 3
NOW_YEARS = "2023-12-31T12:00:00Z"
# Ids and days of equal width, so that every command has the same length and a pipeline is a slice of the file.
FIRST_ID, FIRST_COMMAND_DAY = 100_000, datetime.date(2024, 10, 10)

CLIENTS, PIPELINE = 50, 64
# No load lasts longer, in seconds. What was not sent by then is left out, and figures a mark count what was sent.
LONGEST_LOAD = 120
LOADERS, PACED = 8, 50_000


class Table:
    """Rows of what was measured and what is wanted; prints each as soon as it is known."""

    def __init__(self):
        self.missed = []

    def part(self, title):
        print(f"\n{title}\n\n| what | measured | wanted | peer | |\n|---|---|---|---|---|", flush=True)

    def row(self, what, measured, wanted="", peer="", met=None):
        verdict = "" if met is None else "met" if met else "NOT MET"
        print(f"| {what} | {measured} | {wanted} | {peer} | {verdict} |", flush=True)
        if met is False:
            self.missed.append(f"{what}: {measured}, wanted {wanted}")

    def at_most(self, what, measured, limit, unit, peer="", digits=1):
        self.row(what, f"{measured:,.{digits}f} {unit}", f"≤ {limit:,.{digits}f} {unit}", peer, measured <= limit)

    def at_least(self, what, measured, limit, peer=""):
        self.row(what, f"{measured:,.0f}", f"≥ {limit:,.0f}", peer, measured >= limit)


# Input ------------------------------------------------------------------------------------------------------------------------


def kept(name, make, *arguments):
    """The path of a generated file, from an earlier run if there is one.

    Another process generates it: the peak memory of a child counts from that of its parent, which must stay small.
    """
    path = f"{KEPT}/{name}"
    if not os.path.exists(path):
        os.makedirs(KEPT, exist_ok=True)
        child = multiprocessing.Process(target=generate, args=(make, path, arguments))
        child.start()
        child.join()
        if child.exitcode:
            raise SystemExit(f"{path} could not be generated")
    return path


def generate(make, path, arguments):
    with open(f"{path}.new", "wb", buffering=1 << 20) as out:
        make(out, *arguments)
    os.rename(f"{path}.new", path)


def drawn(dice, count, below):
    return [number % below for number in array.array("I", dice.randbytes(4 * count))]


def pairs(out, dice, count, heads, tails):
    """Lines made of a random head and a random tail."""
    while count > 0:
        some = min(count, 1 << 17)
        left = map(heads.__getitem__, drawn(dice, some, len(heads)))
        right = map(tails.__getitem__, drawn(dice, some, len(tails)))
        out.write(b"".join(map(operator.add, left, right)))
        count -= some


def heads(users):
    return [b"%d," % user for user in range(users)]


def moments(events, days):
    """Ends of lines: each event at each hour of each day."""
    return [
        f"{event},{FIRST_DAY + datetime.timedelta(days=day)}T{hour:02}:00:00Z\n".encode()
        for event in events
        for day in range(days)
        for hour in range(24)
    ]


def random_marks(out, events):
    """200,000 rows for each event."""
    out.write(b"user,event,timestamp\n")
    names = [f"event-{event:02}" for event in range(events)]
    pairs(out, random.Random(1), USERS * events, heads(USERS), moments(names, DAYS))


def log_rows(out, rows):
    """Rows as in `cargo bench --bench import`: 500,000 users, 12 events of which few are most of what happens, 90 days."""
    out.write(b"user,event,timestamp\n")
    names = [f"event-{event}" for event in range(12) for _ in range(1 << (11 - event))]
    tails = moments(names, 90)
    # Each event as often as its weight says would be 8.8 M strings. A sample is as good.
    tails = random.Random(2).sample(tails, 200_000)
    pairs(out, random.Random(3), rows, heads(500_000), tails)


def email_rows(out, rows, people):
    """Rows whose users are emails. A second file has the same rows with numeric ids, in order of first appearance."""
    dice = random.Random(4)
    domains = ["example.com", "mail.example.org", "post.example.net"]
    names = [f"{dice.getrandbits(40):010x}.{dice.getrandbits(20):05x}@{dice.choice(domains)}".encode() for _ in range(people)]
    tails = moments([f"event-{event:02}" for event in range(EVENTS)], DAYS)
    number, met, text = array.array("i", [-1]) * people, 0, 0
    out.write(b"user,event,timestamp\n")
    with open(f"{out.name.removesuffix('.new')}.numbers", "wb", buffering=1 << 20) as numeric:
        numeric.write(b"user,event,timestamp\n")
        while rows > 0:
            some = min(rows, 1 << 17)
            who, ends = drawn(dice, some, people), drawn(dice, some, len(tails))
            for person in who:
                if number[person] < 0:
                    number[person], met, text = met, met + 1, text + len(names[person])
            out.write(b"".join([b"%b,%b" % (names[p], tails[e]) for p, e in zip(who, ends)]))
            numeric.write(b"".join([b"%d,%b" % (number[p], tails[e]) for p, e in zip(who, ends)]))
            rows -= some
    with open(f"{out.name.removesuffix('.new')}.json", "w") as facts:
        json.dump({"people": met, "text": text}, facts)


def many_bitmaps(out, events):
    """Eight users of each event on each day of three years, in order of time."""
    dice, users = random.Random(5), heads(USERS)
    out.write(b"user,event,timestamp\n")
    day, end = datetime.date(FIRST_YEAR, 1, 1), datetime.date(FIRST_YEAR + YEARS, 1, 1)
    while day < end:
        tails = [f"event-{event:04},{day}T12:00:00Z\n".encode() for event in range(events)] * 8
        out.write(b"".join(map(operator.add, map(users.__getitem__, drawn(dice, len(tails), USERS)), tails)))
        day += datetime.timedelta(days=1)


def command(*arguments):
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        argument = argument.encode() if isinstance(argument, str) else argument
        parts += [b"$%d\r\n" % len(argument), argument, b"\r\n"]
    return b"".join(parts)


def commands(out, events, count):
    """SETBITs of random users in the bitmaps of random days, all equally long."""
    days = [FIRST_COMMAND_DAY + datetime.timedelta(days=day) for day in range(83)]
    days = [day for day in days if day.day >= 10][:DAYS]
    starts = [
        command("SETBIT", f"trackist_e{event:02}_{day.year}-{day.month}-{day.day}").replace(b"*2", b"*4")
        for event in range(events)
        for day in days
    ]
    ends = [b"$6\r\n%d\r\n$1\r\n1\r\n" % (FIRST_ID + user) for user in range(USERS)]
    pairs(out, random.Random(6), count, starts, ends)


COMMAND = len(command("SETBIT", "trackist_e00_2024-10-10", "100000", "1"))


# Processes --------------------------------------------------------------------------------------------------------------------


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Measured:
    """A server whose memory and writes are read from /proc."""

    def peak(self):
        """Peak memory in MB."""
        return self.status("VmHWM")

    def resident(self):
        return self.status("VmRSS")

    def status(self, field):
        with open(f"/proc/{self.process.pid}/status") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024 / MB

    def written(self):
        """Bytes written to the device, and bytes passed to write calls (to sockets as well)."""
        with open(f"/proc/{self.process.pid}/io") as lines:
            fields = dict(line.split(": ") for line in lines)
        return int(fields["write_bytes"]), int(fields["wchar"])

    def client(self):
        client = socket.create_connection(self.resp)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def environment(now=None):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COHORTIST_")}
    return clean | {"COHORTIST_LOG": "error"} | ({"COHORTIST_NOW": now} if now else {})


class Server(Measured):
    """`cohortist serve` on a store, with a listener for Redis clients."""

    def __init__(self, program, store, *flags, now=None):
        self.resp, self.http = ("127.0.0.1", free_port()), ("127.0.0.1", free_port())
        addresses = ["--listen", "%s:%d" % self.http, "--resp", "%s:%d" % self.resp]
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [program, "--store", store, *flags, "serve", *addresses], stderr=subprocess.PIPE, text=True, env=environment(now)
        )
        self.said = []
        threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True).start()

    def answered(self, path="/readyz", within=120):
        """Seconds from the start of the process to the first answer."""
        while True:
            try:
                connection = http.client.HTTPConnection(*self.http, timeout=within)
                connection.request("GET", path)
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 200:
                    return time.monotonic() - self.began
                if time.monotonic() - self.began > within:
                    raise SystemExit(f"{path}: {answer.status} {body[:200]}")
            except OSError:
                if self.process.poll() is not None or time.monotonic() - self.began > within:
                    raise SystemExit(f"the server did not start: {''.join(self.said)}") from None
            time.sleep(0.002)

    def __enter__(self):
        self.answered()
        return self


class Redis(Measured):
    """redis-server in a directory of its own."""

    def __init__(self, directory, *flags):
        os.makedirs(directory, exist_ok=True)
        self.directory, self.resp = directory, ("127.0.0.1", free_port())
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.resp[1]), "--save", "", "--dir", directory, *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def ask(self, *arguments):
        with self.client() as client:
            client.sendall(command(*arguments))
            return client.recv(1 << 16).decode()

    def __enter__(self):
        until = time.monotonic() + 10
        while True:
            try:
                if self.ask("PING") == "+PONG\r\n":
                    return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise SystemExit("redis-server did not start") from None
            time.sleep(0.02)

    def dump(self):
        """Bytes of a fresh RDB file."""
        self.ask("BGSAVE")
        time.sleep(0.1)
        while "rdb_bgsave_in_progress:0" not in self.ask("INFO", "persistence"):
            time.sleep(0.1)
        return os.path.getsize(f"{self.directory}/dump.rdb")


def run(program, *arguments, now=None):
    """Runs a command of cohortist; seconds and peak memory in MB."""
    with tempfile.TemporaryFile("w+") as said:
        began = time.monotonic()
        process = subprocess.Popen([program, *arguments], stdout=said, stderr=said, env=environment(now))
        _, status, usage = os.wait4(process.pid, 0)
        took = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(arguments)} failed with {process.returncode}: {said.read()[-2000:]}")
    return took, usage.ru_maxrss * 1024 / MB


def sizes(path):
    """Bytes allocated and apparent of a directory's files, its log included."""
    allocated = apparent = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                found = os.stat(f"{directory}/{name}")
            except FileNotFoundError:
                continue
            allocated, apparent = allocated + found.st_blocks * 512, apparent + found.st_size
    return allocated, apparent


def copied(store, to):
    """Copies a store; holes in its files stay holes."""
    subprocess.run(["cp", "-a", store, to], check=True)


def log_bytes(store):
    """Length of the store's log."""
    total = 0
    for directory, _, names in os.walk(store):
        for name in names:
            if re.match(r"log|wal", name) or re.search(r"\.(log|wal)$", name):
                try:
                    total += os.path.getsize(f"{directory}/{name}")
                except FileNotFoundError:
                    pass
    return total


def warm(path):
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 22):
            pass


# Load -------------------------------------------------------------------------------------------------------------------------


def load(address, path, first, last, connections, barrier, results):
    """Sends the pipelines `first` to `last` of a file; each connection waits for all replies before its next one."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as whole:
        length = COMMAND * PIPELINE
        clients = [socket.create_connection(address) for _ in range(connections)]
        for client in clients:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        replies, wanted = bytearray(4 * PIPELINE), 4 * PIPELINE
        barrier.wait()
        until, sent = time.monotonic() + LONGEST_LOAD, 0
        for number in range(first, last, connections):
            if time.monotonic() > until:
                break
            busy = clients[: last - number]
            for at, client in enumerate(busy, number):
                client.sendall(whole[at * length : (at + 1) * length])
            for client in busy:
                got = client.recv_into(replies, wanted, socket.MSG_WAITALL)
                if got != wanted or replies.count(b":") != PIPELINE:
                    raise SystemExit(f"a mark was refused: {bytes(replies)!r}")
            sent += len(busy) * PIPELINE
        results.put(sent)


def loaded(server, path, count, clients=CLIENTS, processes=4):
    """Sends so many marks from so many clients; how many were sent, and seconds."""
    pipelines, results = count // PIPELINE, multiprocessing.Queue()
    barrier = multiprocessing.Barrier(processes + 1)
    bounds = [pipelines * number // processes for number in range(processes + 1)]
    share = [clients * (number + 1) // processes - clients * number // processes for number in range(processes)]
    running = [
        multiprocessing.Process(
            target=load, args=(server.resp, path, bounds[number], bounds[number + 1], share[number], barrier, results)
        )
        for number in range(processes)
    ]
    for process in running:
        process.start()
    barrier.wait(60)
    began = time.monotonic()
    for process in running:
        process.join()
    if any(process.exitcode for process in running):
        raise SystemExit("a client failed")
    took = time.monotonic() - began
    return sum(results.get() for _ in running), took


def pace(address, path, connections, first, rate, until, results):
    """Sends pipelines at a steady rate in all, whatever the answers before them took, as long as the socket takes them."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as whole:
        length, end = COMMAND * PIPELINE, len(whole) // (COMMAND * PIPELINE)
        clients = [socket.create_connection(address) for _ in range(connections)]
        waiting = {client: 0 for client in clients}
        apart, due, sent, done = PIPELINE / rate, time.monotonic(), 0, 0
        while (now := time.monotonic()) < until:
            while due <= now:
                client = clients[sent % connections]
                # A client that waits for eight pipelines sends nothing; the rate it reached is reported.
                if waiting[client] < 8 * 4 * PIPELINE:
                    at = (first + sent) % end
                    client.sendall(whole[at * length : (at + 1) * length])
                    waiting[client] += 4 * PIPELINE
                sent, due = sent + 1, due + apart
            for client in select.select(clients, [], [], max(0, due - time.monotonic()))[0]:
                got = client.recv(1 << 16)
                if not got or b"-" in got:
                    raise SystemExit(f"a mark was refused: {got[:200]!r}")
                waiting[client] -= len(got)
                done += len(got)
        results.put(done / 4)


def probe(address, until, results):
    """A SETBIT each 5 ms; its time runs from when it was due."""
    dice, times = random.Random(7), []
    with socket.create_connection(address) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        due = time.monotonic()
        while due < until:
            time.sleep(max(0, due - time.monotonic()))
            client.sendall(command("SETBIT", "trackist_probe_2024-12-10", str(dice.randrange(USERS)), "1"))
            assert client.recv(64)[:1] == b":"
            times.append(time.monotonic() - due)
            due += 0.005
    results.put(times)


def percentile(times, share):
    times = sorted(times)
    return times[min(len(times) - 1, int(len(times) * share))]


# Parts ------------------------------------------------------------------------------------------------------------------------


class Bench:
    def __init__(self, asked, directory):
        self.asked, self.directory, self.table = asked, directory, Table()
        self.program, self.scale = asked.program, asked.scale
        self.events = max(1, round(EVENTS * self.scale))
        # How much of the full data set this is. Limits on bytes shrink with it.
        self.share = self.events / EVENTS

    def path(self, name):
        path = f"{self.directory}/{name}"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def imported(self, store, path, *flags, program=None):
        warm(path)
        return run(program or self.program, "--store", store, *flags, "import", path)

    def random_store(self):
        """The store with random marks, imported once and copied for each use."""
        origin = f"{self.directory}/random"
        if not os.path.exists(origin):
            self.imported(origin, kept(f"random-{self.events}.csv", random_marks, self.events))
        return origin

    def commands(self):
        """A file of SETBITs, and how many there are.

        A smaller scale has fewer marks in as many bitmaps. They stay sparser than at full scale, so that a mark costs less.
        """
        count = int(30_000_000 * self.scale) // PIPELINE * PIPELINE
        return kept(f"commands-{EVENTS}-{count}", commands, EVENTS, count), count

    def size(self):
        bitmaps = self.events * (DAYS + 9 + 2)
        self.table.part(f"{USERS * self.events:,} random marks, {bitmaps:,} bitmaps")
        allocated, apparent = sizes(self.random_store())
        # What opens a store may write to it.
        store, backup = self.path("opened"), self.path("backup")
        copied(self.random_store(), store)
        run(self.program, "--store", store, "backup", backup)
        with Redis(self.path("redis")) as redis:
            run(self.program, "copy", store, "redis://%s:%d/0" % redis.resp)
            dump = f"Redis RDB {redis.dump() / MB:.1f} MB"
        self.table.at_most("store, allocated", allocated / MB, 30 * self.share, "MB", dump)
        self.table.row("store, apparent", f"{apparent / MB:.1f} MB")
        self.table.at_most("backup", os.path.getsize(backup) / MB, 26 * self.share, "MB", dump)

    def expire(self):
        self.table.part("expire to a sixth of the bitmaps")
        spans = ["--days", "10d", "--weeks", "1d", "--months", "1d"]
        origin = self.random_store()
        before = sizes(origin)[0]
        store = self.path("expired")
        copied(origin, store)
        run(self.program, "--store", store, "expire", *spans, "--yes", now=NOW)
        left = sizes(store)[0]
        self.table.at_most("file, nothing serves it", 100 * left / before, 25, f"% of {before / MB:.1f} MB", digits=0)
        store = self.path("expired")
        copied(origin, store)
        with Server(self.program, store) as server:
            began, reached = time.monotonic(), None
            run(self.program, "--store", "redis://%s:%d/0" % server.resp, "expire", *spans, "--yes", now=NOW)
            while time.monotonic() - began < 60:
                left = sizes(store)[0]
                if left <= before / 4:
                    reached = time.monotonic() - began
                    break
                time.sleep(0.5)
        after = f" after {reached:.0f} s" if reached is not None else " after a minute"
        self.table.at_most("file, while served", 100 * left / before, 25, f"% of {before / MB:.1f} MB{after}", digits=0)

    def marks(self):
        path, count = self.commands()
        self.table.part(f"{count:,} random SETBITs, {CLIENTS} clients with pipelines of {PIPELINE}")
        warm(path)

        def measured(server):
            with server:
                begun, passed = server.written()
                sent, took = loaded(server, path, count)
                if sent < count:
                    print(f"| sent within {LONGEST_LOAD} s | {sent:,} of {count:,} marks | | | |", flush=True)
                # What was accepted must reach the disk as well.
                last, calm = server.written()[0], time.monotonic()
                while time.monotonic() - calm < 4:
                    time.sleep(0.5)
                    if (now := server.written()[0]) != last:
                        last, calm = now, time.monotonic() if time.monotonic() - calm < 60 else calm
                device, called = server.written()
                # Replies are four bytes each and go through write or send calls, too.
                return sent / took, (device - begun) / sent, (called - passed) / sent, server.peak()

        redis = measured(Redis(self.path("redis"), "--appendonly", "yes", "--appendfsync", "everysec"))
        own = measured(Server(self.program, self.path("marks")))
        aof = "redis-server with AOF"
        self.table.at_most("bytes to the device a mark", own[1], 100, "B", f"{aof} {redis[1]:.0f} B", digits=0)
        self.table.row("bytes through write calls a mark", f"{own[2]:.0f} B", "", f"{aof} {redis[2]:.0f} B")
        self.table.at_most("peak memory, default --memory-mb", own[3], 1024 * 1.048576, "MB", f"{aof} {redis[3]:.0f} MB", digits=0)
        if self.asked.base:
            base = measured(Server(self.asked.base, self.path("marks")))
            said = f"base {base[0]:,.0f}, {aof} {redis[0]:,.0f}"
            self.table.at_least("marks a second", own[0], 0.95 * base[0], said)
        else:
            self.table.row("marks a second", f"{own[0]:,.0f}", "no less than --base", f"{aof} {redis[0]:,.0f}")
        small = measured(Server(self.program, self.path("marks"), "--memory-mb", "256"))
        self.table.at_most("bytes to the device a mark, --memory-mb 256", small[1], 100, "B", digits=0)
        self.table.at_most("peak memory, --memory-mb 256", small[3], 200, "MB", digits=0)
        self.table.row("marks a second, --memory-mb 256", f"{small[0]:,.0f}")

    def latency(self):
        seconds = max(8, round(40 * self.scale))
        self.table.part(f"one client's SETBIT beside {LOADERS} loaders at {PACED:,} marks a second in all, for {seconds} s")
        path, count = self.commands()
        warm(path)

        def measured(server):
            with server:
                until = time.monotonic() + seconds + 1
                rates, times = multiprocessing.Queue(), multiprocessing.Queue()
                half = count // PIPELINE // 2
                running = [
                    multiprocessing.Process(
                        target=pace, args=(server.resp, path, LOADERS // 2, half * number, PACED / 2, until, rates)
                    )
                    for number in range(2)
                ]
                running.append(multiprocessing.Process(target=probe, args=(server.resp, until, times)))
                for process in running:
                    process.start()
                # The first second is not counted: processes start and connect.
                found = times.get()[200:]
                rate = sum(rates.get() for _ in range(2)) / (seconds + 1)
                for process in running:
                    process.join()
                return [1000 * value for value in (percentile(found, 0.5), percentile(found, 0.99), max(found))], rate

        theirs, reached = measured(Redis(self.path("redis"), "--appendonly", "yes", "--appendfsync", "everysec"))
        own, rate = measured(Server(self.program, self.path("latency")))
        for name, place, limit in [("p99", 1, 10), ("longest", 2, 60)]:
            peer = f"redis-server with AOF {theirs[place]:.1f} ms"
            self.table.at_most(name, own[place], limit, "ms", peer)
            # A tenth is what two runs differ by at least.
            self.table.row(f"{name}, beside the peer", f"{own[place]:.1f} ms", "no worse", peer, own[place] <= 1.1 * theirs[place])
        self.table.row("median", f"{own[0]:.2f} ms", "", f"redis-server with AOF {theirs[0]:.2f} ms")
        self.table.row("marks a second reached", f"{rate:,.0f}", f"{PACED:,}", f"{reached:,.0f}", rate > 0.95 * PACED)

    def start(self):
        self.table.part("from exec to the first answered question, after kill -9 with a full log")
        for size in (100, 1000):
            keys = max(2, int(size * self.scale * 0.8))
            store = self.path("killed")
            self.fill(store, keys)
            log = self.killed(store, keys)
            took = []
            for _ in range(3):
                copy = self.path("started")
                copied(store, copy)
                with Server(self.program, copy) as server:
                    took.append(server.answered(f"/api/v1/count?set=active@{FIRST_DAY}"))
            each = ", ".join(f"{seconds:.2f}" for seconds in took)
            what = f"{keys * 1.25:,.0f} MB of bitmaps, log of {log / MB:.1f} MB (runs: {each})"
            self.table.at_most(what, statistics.median(took), 0.5, "s", digits=2)

    def key(self, number):
        day = FIRST_DAY - datetime.timedelta(days=number)
        return f"trackist_active_{day.year}-{day.month}-{day.day}"

    def fill(self, store, keys):
        """Bitmaps of 10 M users of whom half are active: 1.25 MB each, and no encoding makes them smaller."""
        dice = random.Random(8)
        with Server(self.program, store) as server, server.client() as client:
            for number in range(keys):
                client.sendall(command("SET", self.key(number), dice.randbytes(1_250_000)))
                if client.recv(64) != b"+OK\r\n":
                    raise SystemExit("a bitmap was refused")

    def killed(self, store, keys):
        """Marks random users until the log is nearly as long as it gets, and kills the server."""
        dice, most, shrunk, last, began = random.Random(9), 0, False, 0, time.monotonic()
        starts = [command("SETBIT", self.key(number)).replace(b"*2", b"*4") for number in range(keys)]
        server = Server(self.program, store)
        server.answered()
        with server.client() as client:
            while time.monotonic() - began < 60:
                users = drawn(dice, 4096, 10_000_000)
                client.sendall(
                    b"".join(b"%b$%d\r\n%d\r\n$1\r\n1\r\n" % (dice.choice(starts), len(str(user)), user) for user in users)
                )
                left = 4 * len(users)
                while left:
                    left -= len(client.recv(left))
                now = log_bytes(store)
                shrunk, most, last = shrunk or now < last, max(most, now), now
                # It is known how long the log gets once it was cut.
                if shrunk and now > 0.9 * most:
                    break
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        return log_bytes(store)

    def csv(self):
        rows = int(3_000_000 * self.scale)
        self.table.part(f"import of {rows:,} rows of CSV")
        path = kept(f"log-{rows}.csv", log_rows, rows)

        def measured(program):
            runs = [self.imported(self.path("csv"), path, program=program) for _ in range(3)]
            return rows / min(took for took, _ in runs), max(memory for _, memory in runs)

        rate, memory = measured(self.program)
        peer = f"base {measured(self.asked.base)[0]:,.0f}" if self.asked.base else ""
        self.table.at_least("rows a second, best of three, with the start and end of the program", rate, 5_000_000, peer)
        self.table.row("peak memory", f"{memory:,.0f} MB")

    def ids(self):
        rows, people = int(10_000_000 * self.scale), int(2_000_000 * self.scale)
        self.table.part(f"import of {rows:,} rows with {people:,} emails, --ids map")
        path = kept(f"emails-{rows}.csv", email_rows, rows, people)
        with open(f"{path}.json") as file:
            facts = json.load(file)
        store = self.path("emails")
        took, memory = self.imported(store, path, "--ids", "map")
        numeric = self.path("numbers")
        plain, _ = self.imported(numeric, f"{path}.numbers")
        self.table.at_least("rows a second", rows / took, 800_000, f"numeric ids {rows / plain:,.0f}")
        self.table.at_most("peak memory", memory, 400, "MB", digits=0)
        ids = sizes(store)[0] - sizes(numeric)[0]
        text = facts["text"]
        said = f"{ids / MB:.1f} MB for {text / MB:.1f} MB of text"
        self.table.row("ids on disk", f"{ids / text:.2f} × their text ({said})", "≤ 2.5 ×", "", ids <= 2.5 * text)

    def many(self):
        events = max(1, int(1000 * self.scale))
        rows = events * 8 * 365 * YEARS
        self.table.part(f"{events:,} events × {YEARS} years, {events * (365 * YEARS + 157 + 36):,} bitmaps, {rows:,} rows")
        store = self.path("many")
        took, memory = self.imported(store, kept(f"many-{events}.csv", many_bitmaps, events))
        self.table.at_least("import, rows a second", rows / took, 1_000_000)
        self.table.row("import, peak memory", f"{memory:,.0f} MB")
        allocated, apparent = sizes(store)
        self.table.row("store, allocated", f"{allocated / MB:.1f} MB ({apparent / MB:.1f} MB apparent)")
        with Server(self.program, store, now=NOW_YEARS) as server:
            path, took = "/", time.monotonic()
            while True:
                connection = http.client.HTTPConnection(*server.http, timeout=120)
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                if answer.status not in (302, 303, 307, 308):
                    break
                path = answer.getheader("Location")
            if answer.status != 200:
                raise SystemExit(f"{path}: {answer.status}")
            took = time.monotonic() - took
            self.table.at_most("serve after the front page, peak memory", server.peak(), 256, "MB", digits=0)
            self.table.row("front page, first time", f"{took * 1000:,.0f} ms")
        took, memory = run(self.program, "--store", store, "expire", "--days", "400d", now=NOW_YEARS)
        self.table.at_most(f"expire without --yes ({took:.1f} s), peak memory", memory, 100, "MB", digits=0)

    def small(self):
        events = max(1, int(300 * self.scale))
        self.table.part(f"{events:,} events × {YEARS} years, {events * (365 * YEARS + 157 + 36):,} bitmaps")
        store = self.path("small")
        self.imported(store, kept(f"many-{events}.csv", many_bitmaps, events))
        allocated, apparent = sizes(store)
        said = f"{apparent / MB:.1f} MB apparent"
        self.table.at_most("store, allocated", allocated / MB, 33 * events / 300, "MB", said)


PARTS = ["size", "expire", "marks", "latency", "start", "csv", "ids", "many", "small"]


def main():
    parser = argparse.ArgumentParser(prog="benches/store", description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="run only this part; may be repeated")
    parser.add_argument("--scale", type=float, default=1.0, help="share of each data set (default 1)")
    parser.add_argument("--program", default="target/release/cohortist", help="the build to measure")
    parser.add_argument("--base", help="an older build for figures that must not get worse")
    asked = parser.parse_args()
    if not 0.02 <= asked.scale <= 1:
        parser.error("--scale must be between 0.02 and 1")
    if not shutil.which("redis-server"):
        raise SystemExit("redis-server is not installed: apt-get install redis-server")
    os.makedirs(KEPT, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="run-", dir=KEPT)
    try:
        bench = Bench(asked, directory)
        for part in asked.part or PARTS:
            getattr(bench, part)()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    missed = bench.table.missed
    print("\nAll wanted figures are met." if not missed else "\nNot met:\n" + "\n".join(f"- {line}" for line in missed))
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
