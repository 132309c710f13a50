"""No secret leaves: every byte that leaves the processes and every file is searched.

Known secrets are planted in every setting and in every answer of TradingView's stand-in;
the program then runs at debug level, through success and through each failure.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest

from publisher.simulator import Account
from tests.acceptance.rig import Process, Rig
from tests.bus.servers import free_port
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
SERIES = "BTCUSDT-BINANCE-1m"
PLANTED = {
    "TVBUS_USERNAME": "planted-user-7Qz",
    "TVBUS_PASSWORD": 'planted&p+ss %w"7Qz',
    "TVBUS_TOTP_SECRET": "JBSW Y3DP EHPK 3PXP",
    "TVBUS_SESSIONID": "plantedsessionid7Qz",
    "TVBUS_SESSIONID_SIGN": "v3:plantedsign7Qz=",
    "TVBUS_AUTH_TOKEN": "plantedtoken7Qz",
    "TVBUS_STATE_KEY": "planted key 7Qz",
}
REDIS_PASSWORD = "plantedredis7Qz"
WRONG = "planted-wrong-7Qz"
OLD_TOKEN = "eyJhbGciOiJSUzUxMiJ9.eyJleHAiOjE3MDAwMDAwMDB9.cGxhbnRlZDdReg"
ACCOUNT = Account(
    PLANTED["TVBUS_USERNAME"],
    PLANTED["TVBUS_PASSWORD"],
    totp_secret=PLANTED["TVBUS_TOTP_SECRET"],
)
PASSWORD_WAY = ("TVBUS_USERNAME", "TVBUS_PASSWORD", "TVBUS_TOTP_SECRET", "TVBUS_STATE_KEY")
COOKIE_WAY = ("TVBUS_SESSIONID", "TVBUS_SESSIONID_SIGN", "TVBUS_STATE_KEY")
TOKEN_WAY = ("TVBUS_AUTH_TOKEN", "TVBUS_STATE_KEY")
JWT = re.compile(rb"eyJ[\w-]{5,}\.[\w-]+")


def spellings(secret: str) -> Iterator[bytes]:
    """Every way in which a secret could be written down."""
    for text in (
        secret,
        secret.replace(" ", ""),
        quote(secret, safe=""),
        quote(secret),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
    ):
        yield text.encode()
    yield base64.b64encode(secret.encode()).rstrip(b"=")


class Search:
    """Collects what left the processes, and looks for secrets in it."""

    def __init__(self, rig: Rig, folder: Path) -> None:
        self.rig = rig
        self.folder = folder
        self.seen: dict[str, bytes] = {}

    def take(self, name: str, content: bytes) -> None:
        self.seen[name] = self.seen.get(name, b"") + content

    def take_everything(self) -> None:
        """All files that were written, the bus's own among them, and all of its keys."""
        for path in self.folder.rglob("*"):
            if path.is_file() and "planted" not in path.name and path.name != "tvbus.toml":
                self.take(str(path), path.read_bytes())
        for key in self.rig.client.scan_iter():
            with suppress(Exception):
                self.take(f"key {key!r}", self.rig.client.dump(key) or b"")
        self.take("events", repr(self.rig.client.xrange(self.rig.keys.events)).encode())
        self.take("publisher", repr(self.rig.client.hgetall(self.rig.keys.publisher)).encode())

    def check(self) -> int:
        """Fail where a secret is found; return how many bytes were searched."""
        secrets = {*PLANTED.values(), REDIS_PASSWORD, WRONG, *self.rig.simulator.accounts.issued()}
        needles = {needle for secret in secrets for needle in spellings(secret)}
        for name, content in self.seen.items():
            found = [needle for needle in needles if needle in content]
            assert not found, f"{found[0]!r} stands in {name}"
            assert not JWT.search(content), f"a token stands in {name}"
        return sum(map(len, self.seen.values()))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path, [SERIES], accounts=[ACCOUNT], speed=1) as made:
        made.settings |= {"TVBUS_LOG_LEVEL": "debug", "TVBUS_LOG_FORMAT": "json"}
        yield made


def plant(rig: Rig, folder: Path, names: tuple[str, ...], where: str) -> None:
    """Put secrets into the environment, a settings file, or files that the environment names."""
    secrets = {name: PLANTED[name] for name in names}
    if where == "environment":
        rig.settings |= secrets
    elif where == "toml":
        lines = [
            f"{name.removeprefix('TVBUS_').lower()} = {json.dumps(text)}\n"
            for name, text in secrets.items()
        ]
        # The settings file itself holds them, of course: it is not among what is searched.
        place = folder / "planted"
        place.mkdir()
        (place / "tvbus.toml").write_text("".join(lines))
        rig.folder = place
    else:
        for name, text in secrets.items():
            path = folder / f"planted-{name}"
            path.write_text(text + "\n")
            rig.settings[f"{name}_FILE"] = str(path)


def fetch(url: str) -> bytes:
    """Return a page's body, whatever its status."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bytes(reply.read())
    except urllib.error.HTTPError as error:
        with error:
            return bytes(error.read())


def run(rig: Rig, search: Search, until: Callable[[], object] | None) -> int | None:
    """Run a publisher until something holds, or to its end; return its exit code."""
    listen = f"127.0.0.1:{free_port()}"
    arguments = ["publish", SERIES, "--ws-url", rig.simulator.url, "--listen", listen]
    process = Process([*arguments, "--history-bars", "5"], rig.folder, rig.settings).start()
    rig.processes.append(process)
    assert process.process is not None
    command_line = Path(f"/proc/{process.process.pid}/cmdline")
    if command_line.exists():
        search.take("ps", command_line.read_bytes())
    if until is None:
        code = process.process.wait(40)
    else:
        eventually(until, "the publisher got there")
        code = None
        for page in ("metrics", "healthz"):
            search.take(page, fetch(f"http://{listen}/{page}"))
        for command in (["status"], ["status", "--json"], ["series"], ["doctor", "--offline"]):
            done = subprocess.run(
                [sys.executable, "-m", "tvbus", *command],
                cwd=rig.folder,
                env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], **rig.settings},
                capture_output=True,
                check=False,
            )
            search.take(" ".join(command), done.stdout + done.stderr)
            assert done.stdout
        process.stop()
    search.take("log", (rig.folder / "process.log").read_bytes())
    return code


def failed(rig: Rig) -> Callable[[], bool]:
    return lambda: bool(rig.events("signin.failed"))


@pytest.mark.parametrize("where", ["environment", "toml", "files"])
def test_no_secret_leaves_while_all_goes_well(rig: Rig, tmp_path: Path, where: str) -> None:
    folder = rig.folder
    search = Search(rig, folder)
    plant(rig, folder, PASSWORD_WAY, where)
    run(rig, search, rig.live)
    assert rig.simulator.web_counts["signin_ok"] == 1
    search.take_everything()
    assert search.check() > 10_000
    assert rig.simulator.accounts.issued()


Break = Callable[[Rig], Any]
FAILURES: list[tuple[str, tuple[str, ...], Break, int | None]] = [
    ("wrong password", PASSWORD_WAY, lambda r: r.settings.update(TVBUS_PASSWORD=WRONG), 3),
    ("captcha", PASSWORD_WAY, lambda r: r.simulator.faults.inject("captcha"), 3),
    ("locked out", PASSWORD_WAY, lambda r: r.simulator.faults.inject("rate_limit"), None),
    ("page in HTML", PASSWORD_WAY, lambda r: r.simulator.faults.inject("html_factor"), None),
    ("web error", PASSWORD_WAY, lambda r: r.simulator.faults.inject("web_error", count=9), None),
    ("web forbids", PASSWORD_WAY, lambda r: r.simulator.faults.inject("web_forbid", count=9), None),
    ("banned", PASSWORD_WAY, lambda r: r.simulator.faults.inject("banned"), 3),
    ("cookies are wrong", COOKIE_WAY, lambda r: None, 3),
    ("token is old", TOKEN_WAY, lambda r: r.settings.update(TVBUS_AUTH_TOKEN=OLD_TOKEN), 3),
    ("token is wrong", TOKEN_WAY, lambda r: None, 3),
]


@pytest.mark.parametrize(
    ("names", "break_it", "code"),
    [row[1:] for row in FAILURES],
    ids=[row[0] for row in FAILURES],
)
def test_no_secret_leaves_through_a_failure(
    rig: Rig, names: tuple[str, ...], break_it: Break, code: int | None
) -> None:
    search = Search(rig, rig.folder)
    plant(rig, rig.folder, names, "environment")
    break_it(rig)
    happened = (lambda: failed(rig)() or rig.live()) if code is None else None
    assert run(rig, search, happened) == code
    search.take_everything()
    assert search.check() > 1_000


def test_no_secret_leaves_through_a_bus_that_refuses_its_password(rig: Rig) -> None:
    rig.client.config_set("requirepass", REDIS_PASSWORD)
    search = Search(rig, rig.folder)
    plant(rig, rig.folder, PASSWORD_WAY, "environment")
    rig.settings["TVBUS_REDIS_URL"] = f"unix://:wrong-{REDIS_PASSWORD}@{rig.folder}/s"
    log = rig.folder / "process.log"
    arguments = ["publish", SERIES, "--ws-url", rig.simulator.url, "--listen", ""]
    process = Process(arguments, rig.folder, rig.settings).start()
    rig.processes.append(process)
    eventually(lambda: log.exists() and b"store.awaited" in log.read_bytes(), "it waits")
    process.stop()
    search.take("log", log.read_bytes())
    rig.client.config_set("requirepass", "")
    assert search.check() > 100


def test_the_search_finds_what_is_planted_in_the_open(rig: Rig) -> None:
    for name, secret in PLANTED.items():
        search = Search(rig, rig.folder)
        search.take(name, f"x{quote_plus(secret)}y".encode())
        with pytest.raises(AssertionError, match=name):
            search.check()
    search = Search(rig, rig.folder)
    search.take("jwt", b"eyJhbGciOiJSUzUxMiJ9.eyJleHAiOjF9.c2ln")
    with pytest.raises(AssertionError, match="a token stands in jwt"):
        search.check()
