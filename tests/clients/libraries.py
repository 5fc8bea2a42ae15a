"""Libraries of Segment, PostHog, Mixpanel and Amplitude, unchanged but for their host, on `cohortist serve --collect`.

    scripts/test --clients

runs this with the built program; by hand: pip install -r tests/clients/requirements.txt, npm ci --prefix tests/clients, then
python3 tests/clients/libraries.py target/debug/cohortist. The numbers on the dashboard must follow.
"""

import datetime
import json
import logging
import os
import subprocess
import sys
import tempfile
import urllib.request

import mixpanel
import segment.analytics as segment
from amplitude import Amplitude, BaseEvent, EventOptions, Identify
from posthog import Posthog

from bitmapist_client import started

KEY = "a-write-key-for-tests"
# Libraries send the time; the server must not take it for the future.
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
YESTERDAY = NOW - datetime.timedelta(days=1)
USERS = 40


def from_python(host, failures):
    segment.write_key, segment.host = KEY, host
    segment.on_error = lambda error, items: failures.append(f"segment: {error}")
    for gzip in (False, True):
        client = segment.Client(KEY, host=host, gzip=gzip, on_error=segment.on_error)
        for i in range(USERS):
            client.track(f"segment-{gzip}-{i}", "signup", {"plan": "pro"}, timestamp=YESTERDAY)
        client.identify(f"segment-{gzip}-0", {"plan": "max"})
        client.page(f"segment-{gzip}-0", "Docs", "Introduction", timestamp=YESTERDAY)
        client.alias("before", f"segment-{gzip}-0")
        client.flush()
        client.join()
    for gzip in (False, True):
        client = Posthog(KEY, host=host, gzip=gzip, on_error=lambda error, _: failures.append(f"posthog: {error}"))
        for i in range(USERS):
            client.capture("signup", distinct_id=f"posthog-{gzip}-{i}", properties={"plan": "pro"}, timestamp=YESTERDAY)
        client.set(distinct_id=f"posthog-{gzip}-0", properties={"plan": "max"})
        client.alias("before", f"posthog-{gzip}-0")
        assert not client.feature_enabled("anything", "posthog-0", send_feature_flag_events=False)
        client.shutdown()
    addresses = {"events_url": host + "/track", "import_url": host + "/import", "people_url": host + "/engage", "groups_url": host + "/groups"}
    for consumer in (mixpanel.Consumer(**addresses), mixpanel.BufferedConsumer(**addresses)):
        client = mixpanel.Mixpanel(KEY, consumer=consumer)
        kind = type(consumer).__name__
        for i in range(USERS):
            client.track(f"mixpanel-{kind}-{i}", "signup", {"plan": "pro", "time": int(YESTERDAY.timestamp())})
        client.import_data(KEY, f"mixpanel-{kind}-import", "signup", int(YESTERDAY.timestamp()), api_secret="any")
        client.people_set(f"mixpanel-{kind}-0", {"plan": "ignored"})
    consumer.flush()
    client = Amplitude(KEY)
    client.configuration.server_url = host + "/2/httpapi"
    client.configuration.callback = lambda event, code, message: code == 200 or failures.append(f"amplitude: {code} {message}")
    for i in range(USERS):
        client.track(BaseEvent("signup", user_id=f"amplitude-{i}", time=int(YESTERDAY.timestamp() * 1000), event_properties={"plan": "pro"}))
    identify = Identify()
    identify.set("plan", "max")
    client.identify(identify, EventOptions(user_id="amplitude-0"))
    client.shutdown()


def main():
    program = os.path.abspath(sys.argv[1])
    here = os.path.dirname(os.path.abspath(__file__))
    logging.getLogger("segment").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as directory:
        with open(f"{directory}/c.toml", "w") as file:
            file.write(f'[collect]\nkeys = ["{KEY}"]\nproperties = ["plan"]\n')
        command = [program, "--store", f"{directory}/store", "--ids", "map", "--config", f"{directory}/c.toml", "serve", "--collect",
                   "--listen", "127.0.0.1:0"]
        server, said = started(command, {"web": r"listening on (http://\S+)"}, "stderr", directory)
        try:
            failures = []
            from_python(said["web"], failures)
            assert not failures, failures
            node = ["node", f"{here}/libraries.mjs", said["web"], KEY, YESTERDAY.isoformat()]
            subprocess.run(node, check=True, timeout=120)

            def count(what):
                address = f"{said['web']}/api/v1/count?set={what}"
                return json.load(urllib.request.urlopen(address))["counts"][0]["count"]

            day = YESTERDAY.date().isoformat()
            # Segment, PostHog and Mixpanel in two ways each, Amplitude, and two libraries for Node.
            assert count(f"signup@{day}") == USERS * 9 + 2, count(f"signup@{day}")
            assert count(f"page@{day}") == 3, count(f"page@{day}")
            assert count("plan:pro@ever") == USERS * 9, count("plan:pro@ever")
            assert count("plan:max@ever") == 7, count("plan:max@ever")
            print(f"libraries: {USERS * 9 + 2} users signed up on {day} by nine ways of six libraries, and the dashboard counts as many")
        finally:
            server.kill()
            server.wait()


main()
