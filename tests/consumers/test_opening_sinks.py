"""Which sink a TARGET names, and where its secrets may stand."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from consumer_world import Events

from bus.errors import SettingsInvalid
from bus.logs import redact
from consumers.errors import TargetInvalid, UsageError
from consumers.sinks.csv import CsvSink
from consumers.sinks.open import FORMS, open_sink
from consumers.sinks.parquet import ParquetSink
from consumers.sinks.postgres import PostgresSink
from consumers.sinks.print import PrintSink
from consumers.sinks.settings import SinkSettings
from consumers.sinks.webhook import WebhookSink

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/sinks.md").read_text()
DATABASE_URL = "postgresql://me:planted-pg-7Qz@h/market"
HOOK_URL = "https://h.example/planted-path-7Qz"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("target", "kind", "batch"),
    [
        ("print", PrintSink, None),
        ("csv:some/where", CsvSink, 500),
        ("parquet:some/where", ParquetSink, 500),
        (f"postgres:{DATABASE_URL}", PostgresSink, 500),
        ("postgres://me@h/market", PostgresSink, 500),
        ("postgres:host=h dbname=market", PostgresSink, 500),
        ("postgres:", PostgresSink, 500),
        (f"webhook:{HOOK_URL}", WebhookSink, None),
    ],
)
def test_a_target_names_a_sink(target: str, kind: type, batch: int | None) -> None:
    sink = open_sink(target, "g")
    assert type(sink) is kind
    assert sink.batch == batch
    sink.close()


def test_a_function_is_no_sink(tmp_path: Path) -> None:
    assert open_sink("strategy:on_bar", "g") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("csv", "module:function or one of print, csv:DIR"),
        ("frobnicate", "was 'frobnicate'"),
        ("csv:", "name a directory: csv:DIR"),
        ("parquet:", "name a directory: parquet:DIR"),
        ("webhook:", "must be like https://HOST/PATH"),
        ("webhook:http://example.com/", "https://"),
    ],
)
def test_a_target_that_cannot_be_is_told(target: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_sink(target, "g")


def test_a_directory_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    open_sink("csv:~/bars", "g")
    assert (tmp_path / "home/bars").is_dir()


@pytest.mark.parametrize("where", ["environment", "toml", "files"])
def test_addresses_and_secret_may_stand_where_ps_does_not_show_them(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {
        "postgres_url": DATABASE_URL,
        "webhook_url": HOOK_URL,
        "webhook_secret": "planted-secret-7Qz",
    }
    for name, value in said.items():
        if where == "environment":
            monkeypatch.setenv(f"TVBUS_{name.upper()}", value)
        elif where == "files":
            (tmp_path / name).write_text(value + "\n")
            monkeypatch.setenv(f"TVBUS_{name.upper()}_FILE", str(tmp_path / name))
    if where == "toml":
        lines = [f'{name} = "{value}"\n' for name, value in said.items()]
        (tmp_path / "tvbus.toml").write_text("".join(lines))
    database: Any = open_sink("postgres:", "g")
    assert (database._parameters["host"], database._parameters["password"]) == (
        "h",
        "planted-pg-7Qz",
    )
    hook: Any = open_sink("webhook:", "g")
    assert (hook._url, hook._key) == (HOOK_URL, b"planted-secret-7Qz")
    for text in (*said.values(), "planted-pg-7Qz", "/planted-path-7Qz"):
        assert "planted" not in redact(f"told {text} by mistake")


@pytest.mark.parametrize(
    ("target", "setting"),
    [
        (f"postgres:{DATABASE_URL}", "TVBUS_POSTGRES_URL"),
        ("postgres://me:planted@h/x", "TVBUS_POSTGRES_URL"),
        ("postgres:host=h password=planted", "TVBUS_POSTGRES_URL"),
        ("webhook:https://me:planted@h/x", "TVBUS_WEBHOOK_URL"),
        ("postgres://me@h/x", None),
        ("webhook:https://h/x:y@z", None),
    ],
)
def test_a_password_on_the_command_line_is_told(
    target: str, setting: str | None, events: Events
) -> None:
    open_sink(target, "g")
    advice = [event["advice"] for event in events.named("sink.exposed")]
    assert advice == ([f"`ps` shows the password to everybody: use {setting}"] if setting else [])


def test_a_secret_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVBUS_WEBHOOK_SECRET_FILE", "/nowhere")
    with pytest.raises(SettingsInvalid, match="TVBUS_WEBHOOK_SECRET_FILE: /nowhere cannot be"):
        open_sink("webhook:https://h", "g")


def test_what_is_not_installed_is_told_with_what_to_do() -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = sys.modules['psycopg'] = None\n"
        "from consumers.sinks.open import open_sink\n"
        "for target in ('parquet:x', 'postgres:'):\n"
        "    try: open_sink(target, 'g')\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "UsageError parquet:DIR needs pyarrow: install it with `pip install 'tvbus[parquet]'`",
        "UsageError postgres:URL needs psycopg: install it with `pip install 'tvbus[postgres]'`",
    ]


def test_the_guide_names_every_form_and_setting() -> None:
    assert all(f"| `{form}` |" in GUIDE for form in FORMS)
    own = set(SinkSettings.secrets) - {"redis_url"}
    assert own <= set(SinkSettings.model_fields)
    assert all(f"| `TVBUS_{name.upper()}` |" in GUIDE for name in own)


def test_a_target_error_is_wrong_use() -> None:
    with pytest.raises(TargetInvalid):
        open_sink("", "g")
