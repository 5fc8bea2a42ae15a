"""What every bench has to set up: how many users there are, their marks, and a Redis that holds them."""

import argparse
import platform
import tempfile

import marks
import ours


def size(text):
    factor = {"k": 1000, "M": 1_000_000}.get(text[-1:], 1)
    users = int(text.rstrip("kM")) * factor
    if not 100_000 <= users <= 1_000_000_000:
        raise argparse.ArgumentTypeError("from 100k to 1000M")
    return users


def add_users(parser):
    parser.add_argument("--users", type=size, default=10_000_000, help="such as 10M or 500k (default 10M)")


def marks_of(users, percent=None, days=marks.ROWS):
    print(f"making the marks of {users:,} users, or taking those of an earlier run", flush=True)
    return marks.made(users, percent, days)


def held(stack, thing):
    """The same, to be closed with all the others."""
    stack.callback(thing.close)
    return thing


def filled_redis(stack, made):
    """A directory for whatever is made in a run, and a Redis with all marks: its socket, and a client of it."""
    directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="peers-"))
    socket, client = stack.enter_context(ours.redis_server(directory))
    for key, value in made.bitmaps():
        client.set(key, value)
    return directory, socket, client


def cpu():
    with open("/proc/cpuinfo") as lines:
        return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
