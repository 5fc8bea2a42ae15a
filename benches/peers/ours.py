"""cohortist's ways to an answer: the library, the command line, and the dashboard over HTTP."""

import contextlib
import csv
import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import time

from marks import COLS, NOW, ROWS

PROGRAM = "target/release/cohortist"


def build():
    """The release binary, and the bench that times the library; its path is returned."""
    subprocess.run(["cargo", "build", "--release", "--quiet", "--bin", "cohortist"], check=True)
    built = subprocess.run(
        ["cargo", "bench", "--quiet", "--bench", "plan", "--no-run", "--message-format=json"],
        check=True,
        stdout=subprocess.PIPE,
    )
    made = [json.loads(line) for line in built.stdout.splitlines()]
    return next(one["executable"] for one in made if one.get("executable") and one["target"]["name"] == "plan")


@contextlib.contextmanager
def redis_server(directory):
    """A Redis that writes nothing to disk, on a Unix socket."""
    import redis

    path = f"{directory}/redis.sock"
    command = ["redis-server", "--port", "0", "--save", "", "--unixsocket", path, "--dir", directory]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        client = redis.Redis(unix_socket_path=path)
        wait_for(lambda: client.ping(), redis.ConnectionError)
        yield path, client
    finally:
        server.terminate()
        server.wait()


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextlib.contextmanager
def redis_cluster(directory, primaries=3):
    """A cluster of Redis without replicas that writes no data to disk, on ports of its own: its URL."""
    import redis

    ports, bus_ports = free_ports(primaries), free_ports(primaries)
    servers = []
    try:
        for port, bus_port in zip(ports, bus_ports):
            os.mkdir(f"{directory}/{port}")
            command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", f"{directory}/{port}"]
            command += ["--cluster-enabled", "yes", "--cluster-port", str(bus_port)]
            servers.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
        clients = [redis.Redis(port=port) for port in ports]
        for number, client in enumerate(clients):
            wait_for(lambda: client.ping(), redis.ConnectionError)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            first, last = (16384 * n // primaries for n in (number, number + 1))
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0], bus_ports[0])
        for client in clients:
            wait_for(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO", NEVER_DECODE=[]))
            wait_for(lambda: client.execute_command("CLUSTER", "NODES", NEVER_DECODE=[]).count(b"master") == primaries)
        yield "redis-cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
    finally:
        for server in servers:
            server.terminate()
            server.wait()


def wait_for(ready, but_not=()):
    for _ in range(600):
        try:
            if ready():
                return
        except but_not:
            pass
        time.sleep(0.05)
    raise SystemExit("a server that was started here is not ready after 30 s")


def copied(path, to):
    """The same marks in another store of cohortist's."""
    subprocess.run([PROGRAM, "copy", f"redis+unix://{path}", to], check=True, stdout=subprocess.DEVNULL)
    return to


def embedded(directory, path):
    """Embedded stores with the marks of a Redis, made by `copy`: a function that makes another one of them."""
    first = copied(path, f"{directory}/store")
    numbers = iter(range(1000))

    def another():
        # One process owns a store.
        copy = f"{directory}/store-{next(numbers)}"
        shutil.copytree(first, copy)
        return copy

    return another


class Server:
    """`cohortist serve` on a store, as of the day of the marks."""

    def __init__(self, store, *flags):
        command = [PROGRAM, "--store", store, "--now", NOW, "serve", "--listen", "127.0.0.1:0", *flags]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.redis = None
        for line in self.process.stderr:
            if "Redis clients are served at" in line:
                self.redis = line.split()[-1].removeprefix("redis://")
            if "is listening on" in line:
                self.address = line.split("http://")[1].strip()
                break
        else:
            raise SystemExit("cohortist serve did not start")

    def connection(self):
        return http.client.HTTPConnection(self.address, timeout=60)

    def memory(self):
        """What it holds in memory, in MB."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stderr.close()


def address(cohort, path="/retention.json"):
    return f"{path}?cohort={cohort}&returning=active&by=day&rows={ROWS}&cols={COLS}&as=count"


def grid_of_json(text):
    return [[row["size"], *[cell["retained"] for cell in row["cells"]]] for row in json.loads(text)["rows"]]


def grid_of_csv(text):
    return [[int(cell) for cell in row[1:] if cell] for row in list(csv.reader(io.StringIO(text)))[1:]]


def over_http(server, path="/retention.json"):
    """From the request to the last byte of the answer, on a connection that is kept."""
    connection = server.connection()

    def answer(cohort):
        began = time.perf_counter()
        try:
            connection.request("GET", address(cohort, path))
            response = connection.getresponse()
        except http.client.RemoteDisconnected:
            # While others had their turn the server has let go of it. The first answer of a turn does not count.
            connection.close()
            return answer(cohort)
        body = response.read()
        took = (time.perf_counter() - began) * 1000
        assert response.status == 200, body
        return took, body

    def grid(cohort, body):
        if path.endswith(".json"):
            return grid_of_json(body)
        # The page's numbers are the CSV's, which tests hold.
        plain = server.connection()
        plain.request("GET", address(cohort, "/retention.csv"))
        body = plain.getresponse().read()
        plain.close()
        return grid_of_csv(body.decode())

    return answer, grid


def command_line(store):
    """From the start of a process to its end."""

    def answer(cohort):
        command = [PROGRAM, "--store", store, "--now", NOW, "retention", cohort, "active"]
        command += ["--rows", str(ROWS), "--cols", str(COLS), "--format", "csv", "--as", "count"]
        began = time.perf_counter()
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
        return (time.perf_counter() - began) * 1000, out

    return answer, lambda cohort, out: grid_of_csv(out.decode())


class Library:
    """The library in a process of its own, which takes the time itself: no process and no HTTP is in it."""

    def __init__(self, program, store):
        self.process = subprocess.Popen([program, store], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def way(self, how):
        def answer(cohort):
            self.process.stdin.write(f"{cohort} {how}\n")
            self.process.stdin.flush()
            said = json.loads(self.process.stdout.readline())
            return said["ms"], said["grid"]

        return answer, lambda cohort, grid: grid

    def close(self):
        self.process.stdin.close()
        self.process.wait()
