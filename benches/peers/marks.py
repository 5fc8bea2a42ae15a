"""The marks that every contender gets: made once, from fixed seeds, and kept as the bytes of bitmaps and as rows.

`active`: as many random users each day as are in 5.7 % of all; the sweep over densities asks for other shares. `signup`: one new user
in a thousand each day, with ids in the order of sign-up. For 10 M users that is 570 000 active and 10 000 new users a day.
"""

import datetime
import os
import shutil

import numpy
import pyarrow
import pyarrow.parquet

TODAY = datetime.date(2026, 10, 31)
NOW = "2026-10-31T18:00:00Z"
ROWS, COLS = 31, 13
EVENTS = ["signup", "active"]


class Marks:
    """Where the marks are: `bitmaps/` holds a file per Redis key, and each event has a Parquet file of (day, user)."""

    def __init__(self, directory):
        self.directory = directory

    def rows(self, event):
        return f"{self.directory}/{event}.parquet"

    def bitmaps(self):
        """Redis keys as bitmapist writes them, with their bytes."""
        for key in sorted(os.listdir(f"{self.directory}/bitmaps")):
            with open(f"{self.directory}/bitmaps/{key}", "rb") as file:
                yield key, file.read()


def users_of(event, back, users, percent=None):
    """The users of an event so many days ago, ascending. With `percent` each user is active that day with this chance."""
    daily = users // 1000
    if event == "signup":
        newest = users - back * daily
        return numpy.arange(newest - daily, newest, dtype=numpy.uint32)
    dice = numpy.random.Generator(numpy.random.PCG64(back))
    if percent is not None:
        return numpy.flatnonzero(dice.random(users, dtype=numpy.float32) < percent / 100).astype(numpy.uint32)
    wanted = users * 57 // 1000
    # A few too many, as some come twice; which of them stay is drawn too, so that no id is likelier than another.
    drawn = numpy.unique(dice.integers(0, users, wanted * 21 // 20 + 100, dtype=numpy.uint32))
    return numpy.sort(dice.permutation(drawn)[:wanted])


def made(users, percent=None, days=ROWS):
    """The marks for so many users, from an earlier run where there was one."""
    directory = f"target/peers/marks-{users}" + ("" if percent is None else f"-{percent:g}")
    directory += "" if days == ROWS else f"-{days}-days"
    if not os.path.isdir(directory):
        new = f"{directory}.new"
        shutil.rmtree(new, ignore_errors=True)
        os.makedirs(f"{new}/bitmaps")
        for event in EVENTS:
            dates, ids = [], []
            for back in range(days):
                day, members = TODAY - datetime.timedelta(days=back), users_of(event, back, users, percent)
                bits = numpy.zeros(int(members[-1]) + 1, dtype=numpy.uint8)
                bits[members] = 1
                with open(f"{new}/bitmaps/trackist_{event}_{day.year}-{day.month}-{day.day}", "wb") as file:
                    # The first user is the highest bit of the first byte, as in Redis.
                    file.write(numpy.packbits(bits).tobytes())
                dates.append(numpy.full(len(members), (day - datetime.date(1970, 1, 1)).days, dtype=numpy.int32))
                ids.append(members)
            dates = pyarrow.array(numpy.concatenate(dates), pyarrow.int32()).cast(pyarrow.date32())
            table = pyarrow.table({"day": dates, "user": pyarrow.array(numpy.concatenate(ids))})
            pyarrow.parquet.write_table(table, f"{new}/{event}.parquet")
        os.rename(new, directory)
    return Marks(directory)


def live(index):
    """How many columns of a cohort have begun by today; the oldest cohort has index 0."""
    return min(COLS, ROWS - index)
