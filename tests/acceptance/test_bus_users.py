"""A publisher and a consumer work with the rights that `tvbus doctor` asks about, and no more."""

from __future__ import annotations

from pathlib import Path

from publisher.wire import Keys
from tests.acceptance.rig import Rig
from tests.acceptance.test_command_line import tvbus
from tests.waiting import eventually
from tvbus.doctor.look_bus import CONNECTING, consuming, publishing
from tvbus.group_metrics import GroupMetrics

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/operations.md").read_text()


def rights(commands: dict[str, tuple[str | int, ...]]) -> list[str]:
    """Return what an ACL must allow for these commands."""
    names = [name.lower().replace(" ", "|") for name in (*CONNECTING, *commands)]
    return ["~tv:*", "-@all", *(f"+{name}" for name in dict.fromkeys(names))]


def test_publisher_and_consumer_work_with_these_rights_alone(tmp_path: Path) -> None:
    keys = Keys()
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        for name, commands in (("pub", publishing(keys)), ("con", consuming(keys))):
            rig.client.execute_command("ACL", "SETUSER", name, "on", ">hush", *rights(commands))
        rig.settings["TVBUS_REDIS_URL"] = f"unix://pub:hush@{tmp_path}/s"
        rig.publisher()
        eventually(rig.live, "the publisher publishes")
        rig.settings["TVBUS_REDIS_URL"] = f"unix://con:hush@{tmp_path}/s"
        rig.consumer()
        rig.check_streams(rig.simulator.now_ms())
        assert rig.check_handled() > 0
        refused = {entry["object"].lower() for entry in rig.client.acl_log()}
        # The library tells its name where it may, and does not mind.
        assert refused <= {"client|setinfo"}


def test_a_publisher_tells_of_groups_with_its_rights_alone(tmp_path: Path) -> None:
    keys = Keys()
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        allowed = rights(publishing(keys))
        rig.client.execute_command("ACL", "SETUSER", "pub", "on", ">hush", *allowed)
        rig.client.xgroup_create(keys.events, "g", "0", mkstream=True)
        rig.client.xadd(keys.events, {"event": "{}"})
        rig.client.xadd(keys.events, {"event": "{}"})
        rig.client.xreadgroup("g", "c", {keys.events: ">"}, count=1)
        metrics = GroupMetrics(f"unix://pub:hush@{tmp_path}/s", "tv")
        [readable, *_] = metrics.collect()
        metrics.close()
        assert readable.samples[0].value == 1
        assert {x["object"].lower() for x in rig.client.acl_log()} <= {"client|setinfo"}


def test_a_person_can_look_and_ask_with_the_rights_of_the_guide(tmp_path: Path) -> None:
    [line] = [line for line in GUIDE.splitlines() if line.startswith("-@all +@read")]
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        rig.publisher()
        eventually(rig.live, "the publisher publishes")
        rig.client.execute_command("ACL", "SETUSER", "see", "on", ">hush", "~tv:*", *line.split())
        settings = rig.settings | {"TVBUS_REDIS_URL": f"unix://see:hush@{tmp_path}/s"}
        rig.client.xgroup_create(rig.keys.bars(rig.series[0]), "g", "0")
        rig.client.xreadgroup("g", "c", {rig.keys.bars(rig.series[0]): ">"}, count=3)
        rig.client.xadd(rig.keys.dead("g"), {"series": "BTCUSDT-BINANCE-1m"}, id="7-0")
        for arguments in (
            ("status",),
            ("series",),
            ("subscribe", "ETHUSDT-BINANCE-1m"),
            ("dead", "list", "--group", "g"),
            ("dead", "show", "--group", "g", "7-0"),
            ("dead", "replay", "--group", "g", "--all"),
            ("dead", "drop", "--group", "g", "--all", "--yes"),
        ):
            done = tvbus(*arguments, folder=tmp_path, **settings)
            assert done.returncode == 0, done.stderr + done.stdout


def test_the_guide_lists_these_rights() -> None:
    for commands in (publishing(Keys()), consuming(Keys())):
        assert " ".join(rights(commands)[1:]) in GUIDE
