"""What the README promises, run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from consumers import read_frame
from publisher.settings import PublisherSettings
from tests.acceptance.rig import Rig
from tests.waiting import eventually

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
EXAMPLES = ROOT / "examples"


def need(tool: str) -> str:
    """Return a tool's path, or skip."""
    path = shutil.which(tool)
    if path is None:
        pytest.skip(f"missing tool: {tool}")
    return path


def environment(**settings: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TVBUS_")}
    return clean | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **settings}


def python_block(heading: str) -> str:
    """Return the first Python block under a heading."""
    section = README.split(f"## {heading}\n", 1)[1]
    return section.split("```python\n", 1)[1].split("```", 1)[0]


def start(command: list[str], folder: Path, **settings: str) -> subprocess.Popen[str]:
    with (folder / "out.txt").open("w") as out:
        return subprocess.Popen(
            command, cwd=folder, env=environment(**settings), stdout=out, stderr=out, text=True
        )


def finish(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(15)


def test_the_demo_shows_bars_in_order_and_cleans_up(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tvbus", "demo", "--bars", "9"],
        cwd=tmp_path,
        env=environment(TMPDIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = re.findall(r"^\d{4}-\d\d-\d\d \d\d:\d\d:00Z  (\S+) ", done.stdout, re.MULTILINE)
    assert len(lines) >= 9
    assert set(lines) == {"BTCUSDT-BINANCE-1m", "ETHUSDT-BINANCE-1m", "ES1!-CME_MINI-1m"}
    assert "bars of 3 series, in order, 0 missing or repeated" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_demo_with_its_summary(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tvbus", "demo"]
    process = start(command, tmp_path, TMPDIR=str(tmp_path))
    out = tmp_path / "out.txt"
    eventually(lambda: "  next" in out.read_text(), "a live bar is shown")
    assert finish(process, signal.SIGINT) == 0
    assert "0 missing or repeated" in out.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_the_ten_line_consumer_works_as_printed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(python_block("A consumer in ten lines"))
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m", "AAPL-NASDAQ-1D"]) as rig:
        rig.publisher()
        eventually(rig.live, "live")
        process = start([sys.executable, "mine.py"], tmp_path, TVBUS_REDIS_URL=rig.url)
        out = tmp_path / "out.txt"
        eventually(
            lambda: out.read_text().count("+00:00 BTCUSDT-BINANCE-1m ") >= 22, "it sees bars"
        )
        assert "+00:00 AAPL-NASDAQ-1D " in out.read_text()
        assert finish(process) == 0


def test_a_consumer_under_the_command_does_not_run_itself(tmp_path: Path) -> None:
    block = python_block("A consumer in ten lines").replace(
        'if __name__ == "__main__":', "if True:"
    )
    (tmp_path / "mine.py").write_text(block)
    command = [sys.executable, "-m", "tvbus", "consume", "mine:on_bar", "--group", "g"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "put it under if __name__" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_program_of_its_own_gets_logs_on_stderr_and_a_hang_up_stops_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(python_block("A consumer in ten lines"))
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        rig.publisher()
        eventually(rig.live, "live")
        with (tmp_path / "err.txt").open("w") as err, (tmp_path / "out.txt").open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "mine.py"],
                cwd=tmp_path,
                env=environment(TVBUS_REDIS_URL=rig.url, TVBUS_LOG_FORMAT="json"),
                stdout=out,
                stderr=err,
                text=True,
            )
        eventually(lambda: (tmp_path / "out.txt").read_text().count("\n") > 5, "bars are printed")
        assert finish(process, signal.SIGHUP) == 0
        lines = (tmp_path / "err.txt").read_text().splitlines()
        told = [json.loads(line)["event"] for line in lines]
        assert (told[0], told[-1]) == ("bus.found", "consumer.stopped")
        assert "event" not in (tmp_path / "out.txt").read_text()


def test_the_strategy_example_runs_under_the_command(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "strategy.py", tmp_path)
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m", "ETHUSDT-BINANCE-1m"]) as rig:
        rig.publisher()
        eventually(rig.live, "live")
        command = (EXAMPLES / "strategy.py").read_text().split("tvbus consume ", 1)[1]
        arguments = command.split("\n", 1)[0].replace("'", "").split()
        run = [sys.executable, "-m", "tvbus", "consume", *arguments]
        process = start(run, tmp_path, TVBUS_REDIS_URL=rig.url)
        out = tmp_path / "out.txt"
        eventually(lambda: "BTCUSDT-BINANCE-1m" in out.read_text(), "it prints an average")
        eventually(lambda: "ETHUSDT-BINANCE-1m" in out.read_text(), "for each series")
        assert finish(process) == 0


def test_history_is_a_frame_indexed_in_utc(tmp_path: Path) -> None:
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        rig.publisher()
        eventually(rig.live, "live")
        frame = read_frame("BTCUSDT-BINANCE-1m", last=40, redis_url=rig.url)
        expected = [bar.close for bar in rig.stream(rig.series[0])]
        assert str(frame.index.tz) == "UTC"
        assert "".join(f"{c} " for c in frame["close"]) in "".join(f"{c} " for c in expected)
        assert len(frame) == 40


def test_redis_cli_reads_the_json_encoding(tmp_path: Path) -> None:
    redis_cli = need("redis-cli")
    shown = re.search(r"redis-cli (XREVRANGE '[^']+' \+ - COUNT 1)", README)
    assert shown is not None
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        rig.settings["TVBUS_ENCODING"] = "json"
        rig.publisher()
        eventually(rig.live, "live")
        words = shown[1].replace("'", "").split()
        done = subprocess.run(
            [redis_cli, "-s", f"{tmp_path}/s", *words], capture_output=True, text=True, check=True
        )
        entry_id, field, payload = done.stdout.split("\n")[:3]
        assert field == "bar.json"
        assert entry_id == f"{json.loads(payload)['t']}-0"


def test_the_javascript_consumer_sees_every_bar(tmp_path: Path) -> None:
    node, npm = need("node"), need("npm")
    folder = tmp_path / "node"
    shutil.copytree(EXAMPLES / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    subprocess.run([npm, "install", "--silent", "--no-audit"], cwd=folder, check=True)
    with Rig(tmp_path, ["BTCUSDT-BINANCE-1m"]) as rig:
        rig.publisher()
        eventually(rig.live, "live")
        command = [node, str(folder / "consumer.mjs"), "BTCUSDT-BINANCE-1m", "javascript"]
        process = start(command, tmp_path, REDIS_SOCKET=f"{tmp_path}/s")
        out = tmp_path / "out.txt"
        eventually(lambda: out.read_text().count("\n") > 55, "live bars too")
        seen = [json.loads(line) for line in out.read_text().splitlines() if line.endswith("}")]
        process.kill()
        process.wait()
        bars = rig.stream(rig.series[0])[: len(seen)]
        assert [(bar["time"], bar["close"]) for bar in seen] == [
            (bar.open_time_ms, bar.close) for bar in bars
        ]


def test_every_command_named_exists() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tvbus", "--help"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    named = set(re.findall(r"tvbus (demo|[a-z]+)(?= |`|\n|$)", README.split("## More")[0]))
    commands = set(re.findall(r"^│ ([a-z]+) ", done.stdout, re.MULTILINE))
    assert {"publish", "consume", "subscribe"} <= commands
    assert named - commands - {"takes", "is", "never", "promises", "solves"} == set()


def test_the_settings_table_is_true() -> None:
    section = README.split("| setting | meaning | default |\n", 1)[1].split("\n\n", 1)[0]
    fields = PublisherSettings.model_fields
    named = set()
    for row in section.splitlines()[1:]:
        names, _, default = (cell.strip() for cell in row.strip("|").split("|"))
        defaults = default.split(", ")
        for position, name in enumerate(re.findall(r"`TVBUS_([A-Z_]+)`", names)):
            named.add(name.lower())
            value = fields[name.lower()].default
            if defaults[position : position + 1] and value not in (None, ()):
                shown = str(int(value)) if isinstance(value, bool) else str(value)
                stated = defaults[position].split("…")[0]
                assert shown.startswith(stated) or name == "STATE_DIR", name
    assert named >= {"redis_url", "series", "history_bars", "listen", "settle_ms"}
