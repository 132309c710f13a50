"""What an autoscaler is told, by real processes."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from tests.acceptance.rig import Process, Rig
from tests.acceptance.test_command_line import tvbus
from tests.bus.servers import free_port
from tests.waiting import eventually

SERIES = "BTCUSDT-BINANCE-1m"


def metric(port: int, name: str) -> float | None:
    """Return a number on a metrics page, None while it is not there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as reply:
            lines = reply.read().decode().splitlines()
    except OSError:
        return None
    return next((float(x.rpartition(" ")[2]) for x in lines if x.startswith(f"{name} ")), None)


def at_least(port: int, name: str, least: float) -> bool:
    """Whether the page has this number, and it is so great."""
    found = metric(port, name)
    return found is not None and found >= least


def test_a_group_that_falls_behind_is_seen_and_so_is_that_it_caught_up(tmp_path: Path) -> None:
    with Rig(tmp_path, [SERIES]) as rig:
        publishing, consuming = free_port(), free_port()
        arguments = ["publish", SERIES, "--ws-url", rig.simulator.url, "--history-bars", "50"]
        publisher = Process([*arguments, "--listen", f"127.0.0.1:{publishing}"], tmp_path)
        publisher.environment = rig.settings
        rig.processes.append(publisher.start())
        eventually(rig.live, "live")
        rig.client.xgroup_create(rig.keys.bars(rig.series[0]), "strategy", "0")
        unread = f'tvbus_group_unread{{group="strategy",series="{SERIES}"}}'
        eventually(lambda: at_least(publishing, unread, 50), "all bars are unread")
        behind = 'tvbus_group_time_lag_ms_max{group="strategy"}'
        assert at_least(publishing, behind, 50 * 60_000)
        consumer = ["consume", "tests.acceptance.recorder:record", "--group", "strategy"]
        consumer += ["--start", "oldest", "--listen", f"127.0.0.1:{consuming}"]
        rig.processes.append(Process(consumer, tmp_path, rig.settings).start())
        handled = 'tvbus_consumer_total{group="strategy",what="handled"}'
        eventually(lambda: at_least(consuming, handled, 50), "they are handled")
        eventually(lambda: not at_least(publishing, behind, 2 * 60_000 + 1), "it caught up")
        assert metric(publishing, 'tvbus_group_members{group="strategy"}') == 1
        status = tvbus("status", "--json", folder=tmp_path, **rig.settings)
        [group] = json.loads(status.stdout)["groups"]
        assert (group["group"], group["members"], group["dead_letters"]) == ("strategy", 1, 0)
        assert all(x is not None for x in group.values())
