"""Signing in with real processes: once for months, renewed without a gap, never by accident."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from publisher.simulator import Account
from tests.acceptance.rig import Rig
from tests.acceptance.test_command_line import tvbus
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
SECRET = "JBSW Y3DP EHPK 3PXP".lower()
PASSWORD = 'p&ss + 100% ü"x'
TRADER = Account("trader", PASSWORD, totp_secret=SECRET)
CREDENTIALS = {
    "TVBUS_USERNAME": "trader",
    "TVBUS_PASSWORD": PASSWORD,
    "TVBUS_TOTP_SECRET": SECRET,
}
RENEWALS = 10


def test_a_hundred_crashes_cost_one_sign_in(tmp_path: Path) -> None:
    with Rig(
        tmp_path, ["BTCUSDT-BINANCE-1m"], accounts=[TRADER], settings=CREDENTIALS, speed=1
    ) as rig:
        # The first signs in and is stopped as it should be; its session is stored.
        first = rig.publisher()
        eventually(rig.live, "live")
        first.kill()
        done = subprocess.run(
            [sys.executable, "-m", "tests.acceptance.crashing_publisher", "100", "1"],
            cwd=tmp_path,
            env={
                "PYTHONPATH": str(ROOT),
                "TVBUS_SERIES": "BTCUSDT-BINANCE-1m",
                "TVBUS_WS_URL": rig.simulator.url,
                "TVBUS_LISTEN": "",
                **rig.settings,
            },
            capture_output=True,
            text=True,
            timeout=110,
            check=True,
        )
        assert int(done.stdout) == 95, done.stderr[-2000:]
        assert rig.simulator.web_counts["signin"] == 1


def test_crashes_in_the_middle_of_signing_in_stay_within_the_budget(tmp_path: Path) -> None:
    with Rig(
        tmp_path, ["BTCUSDT-BINANCE-1m"], accounts=[TRADER], settings=CREDENTIALS, speed=1
    ) as rig:
        for _ in range(6):
            rig.simulator.faults.inject("slow_web", duration_s=5)
            publisher = rig.publisher()
            signins = rig.simulator.web_counts["signin"]
            eventually(
                lambda p=publisher, n=signins: (
                    rig.simulator.web_counts["signin"] > n or rig.events("signin.failed")
                ),
                "it tries to sign in, or may not",
            )
            publisher.kill()
            rig.client.hset(rig.keys.publisher, "expires_ms", "0")
            rig.simulator.faults.clear()
        assert rig.simulator.web_counts["signin"] == 2
        assert "sign-in" in rig.events("signin.failed")[-1]["reason"]


def test_ten_renewals_of_a_sixty_second_token_lose_no_bar_on_one_connection(
    tmp_path: Path,
) -> None:
    account = Account("trader", PASSWORD, totp_secret=SECRET, token_life_s=60)
    with Rig(
        tmp_path,
        ["BTCUSDT-BINANCE-1m", "ETHUSDT-BINANCE-1m", "BTCUSD-BITFINEX-1m"],
        accounts=[account],
        settings=CREDENTIALS,
        speed=20,
    ) as rig:
        rig.publisher()
        eventually(rig.live, "live")
        eventually(
            lambda: len(rig.events("signin.succeeded")) > RENEWALS, "ten renewals", deadline_s=90
        )
        assert rig.check_streams(rig.simulator.now_ms()) > 100
        assert rig.events("session.lost") == []
        assert len(rig.events("session.opened")) == 1
        assert rig.simulator.web_counts["signin"] == 1
        assert rig.simulator.web_counts["page"] >= RENEWALS


@pytest.mark.parametrize("ending", ["mute", "refuse"])
def test_a_token_that_ends_all_the_same_is_noticed_and_nothing_is_missing(
    tmp_path: Path, ending: str
) -> None:
    account = Account("trader", PASSWORD, totp_secret=SECRET, token_life_s=120)
    with Rig(
        tmp_path,
        ["BTCUSDT-BINANCE-1m"],
        accounts=[account],
        settings=CREDENTIALS,
        speed=30,
        expired_token=ending,
    ) as rig:
        rig.publisher()
        eventually(rig.live, "live")
        rig.simulator.faults.inject("web_error", count=3)
        eventually(lambda: rig.events("session.lost"), "a new connection replaces the mute one")
        eventually(lambda: len(rig.events("session.opened")) > 1, "another connection")
        eventually(rig.live, "live again")
        assert rig.check_streams(rig.simulator.now_ms()) > 50
        assert rig.simulator.web_counts["signin"] == 1


def test_a_failed_sign_in_is_never_anonymous_unless_that_is_wanted(tmp_path: Path) -> None:
    wrong = CREDENTIALS | {"TVBUS_PASSWORD": "not it"}
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"], accounts=[TRADER], settings=wrong, speed=1) as rig:
        publisher = rig.publisher()
        assert publisher.process is not None
        assert publisher.process.wait(30) == 3
        last = (tmp_path / "process.log").read_text().strip().splitlines()[-1]
        assert last.startswith("tvbus: ")
        assert "password" in last
        assert rig.simulator.received["message"] == 0
        rig.settings["TVBUS_ALLOW_ANONYMOUS"] = "1"
        rig.publisher()
        eventually(rig.live, "live")
        assert rig.events("session.opened")[-1]["anonymous"] is True
        assert rig.events("signin.failed")


def test_a_publisher_that_waits_for_the_budget_goes_on_once_a_person_signed_in(
    tmp_path: Path,
) -> None:
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"], accounts=[TRADER], speed=1) as rig:
        rig.settings |= CREDENTIALS | {"TVBUS_PASSWORD": "not it"}
        for _ in range(2):
            spender = rig.publisher()
            assert spender.process is not None
            assert spender.process.wait(30) == 3
        rig.publisher()
        eventually(lambda: "budget" in rig.events("signin.failed")[-1]["reason"], "it waits")
        status = tvbus("status", folder=tmp_path, **rig.settings).stdout
        assert "not signed in: the budget of sign-ins" in status.replace("\n", " ")
        for command in (["subscribe", "ETHUSDT-BINANCE-1m"], ["history", "ETHUSDT-BINANCE-1m"]):
            refused = tvbus(*command, folder=tmp_path, **rig.settings)
            assert refused.returncode == 1
            assert "the publisher is not signed in" in refused.stdout + refused.stderr
        budget = {"TVBUS_SIGNINS_PER_HOUR_MAX": "9", "TVBUS_SIGNINS_PER_DAY_MAX": "9"}
        right = rig.settings | CREDENTIALS | budget
        done = tvbus("login", folder=tmp_path, timeout_s=70, **right)
        assert done.returncode == 0, done.stderr
        eventually(rig.live, "live")
        assert rig.events("signin.succeeded")[-1]["way"] == "stored session"
