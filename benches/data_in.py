"""How fast data gets in: events of analytics libraries, Parquet and CSV files, and copies of bitmaps.

    benches/data-in [collect] [parquet] [copy]

Builds a release binary, and prints what each takes. The load, the server and redis-server share the machine.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

KEY = "a-write-key-for-benchmarks"
USERS = 100_000
DAY = 86_400


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def batches(protocol, size, number):
    """Bodies of a protocol, as the libraries send them."""
    now = time.time()
    events = ["signup", "active", "$pageview", "invite", "purchase"]
    for batch in range(number):
        parts = []
        for i in range(size):
            n = batch * size + i
            user = f"user-{n * 7919 % USERS}"
            event = events[n % len(events)]
            at = now - (n * 613 % (7 * DAY))
            text = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(at))
            properties = {"plan": ["free", "pro", "team"][n % 3], "path": f"/page/{n % 50}", "value": n}
            context = {"library": {"name": "analytics-python", "version": "2.3.2"}}
            parts.append(
                {
                    "segment": lambda: {
                        "type": "track", "event": event, "userId": user, "timestamp": text, "messageId": f"m-{n:032}",
                        "properties": properties, "context": context,
                    },
                    "posthog": lambda: {
                        "event": event, "distinct_id": user, "timestamp": text, "uuid": f"m-{n:032}",
                        "properties": {**properties, "$lib": "posthog-python", "$lib_version": "6.7.0"},
                    },
                    "mixpanel": lambda: {
                        "event": event,
                        "properties": {**properties, "distinct_id": user, "time": int(at * 1000), "token": KEY,
                                       "$insert_id": f"m-{n:032}", "mp_lib": "python"},
                    },
                    "amplitude": lambda: {
                        "event_type": event, "user_id": user, "time": int(at * 1000), "insert_id": f"m-{n:032}",
                        "event_properties": properties, "library": "amplitude-python/1.1.4",
                    },
                }[protocol]()
            )
        yield {
            "segment": lambda: {"batch": parts, "sentAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)), "writeKey": KEY},
            "posthog": lambda: {"api_key": KEY, "batch": parts},
            "mixpanel": lambda: parts,
            "amplitude": lambda: {"api_key": KEY, "events": parts},
        }[protocol]()


PATHS = {"segment": "/v1/batch", "posthog": "/batch/", "mixpanel": "/import", "amplitude": "/batch"}


def send(port, requests, until, done):
    """Sends requests over one connection, one after the other, until a time."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sent = 0
    while time.monotonic() < until:
        connection.sendall(requests[sent % len(requests)])
        answer = connection.recv(65_536)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"refused: {answer[:600].decode()}")
        while True:
            head, found, body = answer.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            if found and (length is None or len(body) >= int(length[1])):
                break
            answer += connection.recv(65_536)
        sent += 1
    done.append(sent)


def collect(program, directory):
    port = free_port()
    store = f"{directory}/collect.db"
    config = f"{directory}/cohortist.toml"
    with open(config, "w") as file:
        file.write(f'[collect]\nkeys = ["{KEY}"]\nproperties = ["plan"]\n')
    server = subprocess.Popen(
        [program, "--config", config, "--store", store, "--ids", "map", "serve", "--collect", "--listen", f"127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "COHORTIST_LOG": "error"},
    )
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        for protocol, path in PATHS.items():
            for size in (100, 1000):
                requests = []
                for body in batches(protocol, size, 100_000 // size):
                    text = json.dumps(body, separators=(",", ":")).encode()
                    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
                    if protocol == "mixpanel":
                        head += "Authorization: Basic YS13cml0ZS1rZXktZm9yLWJlbmNobWFya3M6\r\n"
                    requests.append(head.encode() + b"\r\n" + text)
                size_kib = sum(map(len, requests)) / 1024 / len(requests)
                done = []
                start = time.monotonic()
                share = len(requests) // 4
                threads = [
                    threading.Thread(target=send, args=(port, requests[i * share:(i + 1) * share], start + 6, done))
                    for i in range(4)
                ]
                [thread.start() for thread in threads]
                [thread.join() for thread in threads]
                seconds = time.monotonic() - start
                rate = sum(done) * size / seconds
                print(f"{protocol}, batches of {size} ({size_kib:.0f} KiB): {rate:,.0f} events/s", flush=True)
    finally:
        server.terminate()
        server.wait()


def timed(command):
    start = time.monotonic()
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode != 0:
        raise SystemExit(f"{command}: {ran.stdout}{ran.stderr}")
    return time.monotonic() - start


def parquet(program, directory):
    import duckdb

    rows = 10_000_000
    for title, user, ids in [
        ("numeric ids", "CAST(n * 7919 % 1000003 AS BIGINT)", "numbers"),
        ("string ids", "'user-' || (n * 7919 % 1000003) || '@example.org'", "map"),
    ]:
        table = f"""SELECT {user} AS user_id, 'event' || (n % 20) AS event,
            TIMESTAMP '2026-08-01' + to_seconds(n * 10_000_000 // {rows}) AS time FROM range({rows}) AS t(n)"""
        for kind, name, options in [
            ("Parquet (snappy)", "a.parquet", "(FORMAT parquet)"),
            ("Parquet (zstd)", "b.parquet", "(FORMAT parquet, COMPRESSION zstd)"),
            ("CSV", "c.csv", "(HEADER)"),
        ]:
            duckdb.sql(f"COPY ({table}) TO '{directory}/{name}' {options}")
            size = os.path.getsize(f"{directory}/{name}") / 1e6
            command = [program, "--store", f"{directory}/{name}.{ids}.db", "--ids", ids, "import", f"{directory}/{name}"]
            seconds = timed(command)
            print(f"{kind} of {rows:,} rows, {title} ({size:.0f} MB): {rows / seconds:,.0f} rows/s", flush=True)
            os.remove(f"{directory}/{name}")


def copy(program, directory):
    bitmaps = 200_000
    lines = f"{directory}/many.csv"
    with open(lines, "w") as file:
        file.write("user,event,timestamp\n")
        for n in range(bitmaps // 3 * 2):
            # Most bitmaps have one to three users.
            day = time.strftime("%Y-%m-%d", time.gmtime(1_704_067_200 + n % 700 * DAY))
            file.write(f"{n * 31 % 5000},event{n // 700},{day}\n")
    source = f"{directory}/many.db"
    timed([program, "--store", source, "import", lines])
    port = free_port()
    redis = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(1)
        url = f"redis://127.0.0.1:{port}/0"
        for title, origin, target in [
            ("to Redis", source, url),
            ("from Redis", url, f"{directory}/back.db"),
        ]:
            start = time.monotonic()
            ran = subprocess.run([program, "copy", origin, target], capture_output=True, text=True)
            seconds = time.monotonic() - start
            if ran.returncode != 0:
                raise SystemExit(ran.stdout + ran.stderr)
            copied = int(re.search(r"([\d,]+) bitmap", ran.stdout + ran.stderr)[1].replace(",", ""))
            print(f"copy {title}: {copied / seconds:,.0f} bitmaps/s ({copied:,})", flush=True)
    finally:
        redis.terminate()
        redis.wait()


def main():
    program = os.path.abspath(sys.argv[1])
    wanted = sys.argv[2:] or ["collect", "parquet", "copy"]
    with tempfile.TemporaryDirectory() as directory:
        for part in wanted:
            {"collect": collect, "parquet": parquet, "copy": copy}[part](program, directory)


if __name__ == "__main__":
    main()
