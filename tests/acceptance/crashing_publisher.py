"""Publishers that crash, each a process of its own, made fast by forking a prepared one.

`python -m tests.acceptance.crashing_publisher COUNT SEED` starts COUNT publishers one
after the other with the settings of the environment. Each is killed with -9: the first
ones at any moment, some before they have signed in, the others once they have. Prints
how many had signed in.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time

import orjson
import redis

from bus import logs
from publisher import app
from publisher.settings import PublisherSettings
from publisher.wire import Keys

EARLY = 5
"""So many are killed at any moment."""
EARLY_S_MAX = 0.15
SIGNED_IN_S_MAX = 20.0


def main(count: int, seed: int) -> None:
    """Let publishers crash."""
    settings = PublisherSettings.load()
    logs.configure("json", "warning", sys.stderr)
    assert settings.redis_url is not None
    url = settings.redis_url.get_secret_value()
    client = redis.Redis.from_url(url)
    key = Keys().publisher
    rng = random.Random(seed)
    signed_in = 0
    for number in range(count):
        # As if the lease of the one before had run out: nobody wants to wait 5 s for each.
        client.hset(key, mapping={"expires_ms": "0", "session": "{}"})
        pid = os.fork()
        if pid == 0:
            app.run(settings, url, threading.Event())
            os._exit(0)
        if number < EARLY:
            time.sleep(rng.random() * EARLY_S_MAX)
        else:
            signed_in += _await_sign_in(client, key)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    print(signed_in)


def _await_sign_in(client: redis.Redis, key: str) -> bool:
    deadline = time.monotonic() + SIGNED_IN_S_MAX
    while time.monotonic() < deadline:
        line = orjson.loads(client.hget(key, "session") or b"{}")
        if line.get("way"):
            return True
        time.sleep(0.005)
    return False


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
