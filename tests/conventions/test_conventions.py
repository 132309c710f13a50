"""The whole source follows the style guide, and each rule finds what breaks it."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import is_refused
from tests.conventions import checks
from tests.conventions.checks import drawn_tree, real_tree, violations

ROOT = Path(__file__).resolve().parents[2]
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for package in checks.PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


@pytest.mark.parametrize("rule", checks.RULES, ids=lambda rule: rule.__name__)
def test_the_source_follows_the_rule(rule) -> None:  # type: ignore[no-untyped-def]
    found = [str(one) for path, text in SOURCES.items() for one in violations(rule, path, text)]
    assert not found, f"{rule.__doc__}\n" + "\n".join(found)


def test_there_is_source_to_check() -> None:
    assert {path.split("/")[0] for path in SOURCES} == set(checks.PACKAGES)


LONG = "def f():\n" + "    x = 1\n" * 70
DOCUMENTED = '"""Say."""\n'

PLANTED = [
    (checks.functions_are_short, "publisher/engine.py", LONG),
    (checks.functions_are_short, "bus/logs.py", "async " + LONG),
    (checks.modules_are_short, "tvbus/x.py", "x = 1\n" * 501),
    (checks.decisions_are_pure, "publisher/core/bars.py", "import time\n"),
    (checks.decisions_are_pure, "publisher/wire/commands.py", "from os import environ\n"),
    (checks.decisions_are_pure, "consumers/core/lane.py", "import concurrent.futures\n"),
    (checks.decisions_are_pure, "consumers/core/lane.py", "from urllib.request import urlopen\n"),
    (checks.decisions_are_pure, "publisher/core/gaps.py", "import random\nx = random.random()\n"),
    (checks.decisions_are_pure, "publisher/core/gaps.py", "from random import Random, choice\n"),
    (checks.decisions_are_pure, "publisher/core/gaps.py", "x = Random()\n"),
    (checks.decisions_are_pure, "publisher/core/gaps.py", "x = random.Random(1)\n"),
    (checks.decisions_are_pure, "publisher/core/gaps.py", "x = datetime.now(UTC)\n"),
    (checks.decisions_are_pure, "publisher/core/gaps.py", "x = open('f')\n"),
    (checks.exceptions_are_named, "publisher/engine.py", "try: f()\nexcept Exception: g()\n"),
    (checks.exceptions_are_named, "bus/logs.py", "try: f()\nexcept: g()\n"),
    (checks.exceptions_are_named, "tvbus/x.py", "try: f()\nexcept (OSError, Exception): g()\n"),
    (checks.exceptions_are_named, "tvbus/x.py", "try: f()\nexcept builtins.BaseException: g()\n"),
    (
        checks.exceptions_are_named,
        "tvbus/x.py",
        "try: f()\nexcept Exception as e: raise X from e\n",
    ),
    (checks.nothing_is_printed, "consumers/shell/group.py", "print(1)\n"),
    (checks.names_are_ours, "publisher/engine.py", "def load(ticker): pass\n"),
    (checks.names_are_ours, "publisher/engine.py", "class CandleStore: pass\n"),
    (checks.names_are_ours, "consumers/app.py", "last_ts = 1\n"),
    (checks.names_are_ours, "consumers/app.py", "self.backfills = 1\n"),
    (checks.names_are_ours, "consumers/app.py", "for hole in gaps: pass\n"),
    (checks.names_are_ours, "consumers/app.py", "MAX_HOLES: int = 1\n"),
    (checks.public_things_are_documented, "bus/x.py", "x = 1\n"),
    (checks.public_things_are_documented, "bus/x.py", DOCUMENTED + "def f(): pass\n"),
    (checks.public_things_are_documented, "bus/x.py", DOCUMENTED + "class A: pass\n"),
    (
        checks.public_things_are_documented,
        "bus/x.py",
        DOCUMENTED + "class A:\n    'Say.'\n    def f(self): pass\n",
    ),
    (checks.clients_are_built_in_one_place, "publisher/shell/store.py", "c = redis.Redis()\n"),
    (checks.clients_are_built_in_one_place, "consumers/app.py", "c = Redis.from_url('u')\n"),
    (checks.clients_are_built_in_one_place, "tvbus/x.py", "c = RedisCluster()\n"),
]


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED)
def test_a_planted_violation_is_found(rule, path: str, text: str) -> None:  # type: ignore[no-untyped-def]
    found = violations(rule, path, text)
    assert found
    assert str(found[0]).startswith(f"{path}:")


def test_every_rule_has_a_planted_violation() -> None:
    assert {rule for rule, _, _ in PLANTED} == set(checks.RULES)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (checks.functions_are_short, "bus/x.py", "def f():\n" + "    x = 1\n" * 69),
        (checks.modules_are_short, "bus/x.py", "x = 1\n" * 500),
        (checks.decisions_are_pure, "publisher/shell/clock.py", "import time\n"),
        (checks.decisions_are_pure, "publisher/core/bars.py", "from datetime import UTC\n"),
        (checks.decisions_are_pure, "publisher/core/bars.py", "def f(rng: random.Random): ...\n"),
        (checks.public_things_are_documented, "publisher/core/__init__.py", ""),
        (checks.exceptions_are_named, "publisher/app.py", "try: f()\nexcept Exception: g()\n"),
        (
            checks.exceptions_are_named,
            "bus/x.py",
            "try: f()\nexcept BaseException:\n  g(); raise\n",
        ),
        (checks.exceptions_are_named, "bus/x.py", "try: f()\nexcept OSError: g()\n"),
        (checks.nothing_is_printed, "tvbus/__main__.py", "print(1)\n"),
        (checks.names_are_ours, "publisher/core/messages.py", "timestamp = 1\n"),
        (checks.names_are_ours, "publisher/simulator/market.py", "ticker = 1\n"),
        (
            checks.names_are_ours,
            "publisher/engine.py",
            "x = message.timestamp\ncounts = whole = 1\n",
        ),
        (checks.public_things_are_documented, "bus/x.py", DOCUMENTED + "def _f(): pass\n"),
        (checks.clients_are_built_in_one_place, "bus/connection.py", "redis.Redis()\n"),
        (checks.names_are_ours, "publisher/engine.py", "ts = 1  # allow: the library's name\n"),
        (checks.nothing_is_printed, "bus/x.py", "print(1)  # allow: before the logs exist\n"),
    ],
)
def test_what_the_rule_allows_is_not_found(rule, path: str, text: str) -> None:  # type: ignore[no-untyped-def]
    assert not violations(rule, path, text)


def test_an_exception_without_a_reason_is_none() -> None:
    assert violations(checks.nothing_is_printed, "bus/x.py", "print(1)  # allow:\n")


ERRORS = [path for path in SOURCES if path.endswith("/errors.py")]


@pytest.mark.parametrize("path", ERRORS)
def test_the_errors_are_as_drawn_at_the_top_of_their_file(path: str) -> None:
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    assert drawn_tree(module.__doc__ or "") == real_tree(vars(module))


DRAWN = """What can go wrong.

RootError (retryable = False)
├ First*            one
│ ├ Inner*          two
│ └ Other           three
└ Last
  └ Deepest*        four

And some words.
"""
CLASSES = """
class RootError(Exception): retryable = False
class First(RootError): retryable = True
class Inner(First): pass
class Other(First): retryable = False
class Last(RootError): pass
class Deepest(Last): retryable = True
"""


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("", ""), True),
        (("Inner(First): pass", "Inner(First): retryable = False"), False),
        (("Deepest(Last)", "Deepest(RootError)"), False),
        (("class Other", "class Another"), False),
        (("class Last", "class Extra(RootError): pass\nclass Last"), False),
    ],
)
def test_a_drawing_that_differs_from_the_classes_is_found(
    change: tuple[str, str], same: bool
) -> None:
    names: dict[str, object] = {"__name__": "planted"}
    exec(CLASSES.replace(*change) if change[0] else CLASSES, names)
    assert (drawn_tree(DRAWN) == real_tree(names)) is same


def test_the_changelog_ends_at_the_version_that_is_built() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert newest_version((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")) == version


def newest_version(changelog: str) -> str | None:
    """Return the first version that has a heading of its own."""
    found = re.search(r"^## \[?v?(\d+\.\d+\.\d+[\w.+-]*)\]?", changelog, re.MULTILINE)
    return found[1] if found else None


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("# Changes\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-01\n\n## [1.0.0]\n", "1.2.3"),
        ("## 0.1.0\n", "0.1.0"),
        ("nothing", None),
    ],
)
def test_the_newest_version_is_the_first_heading_with_a_number(
    text: str, version: str | None
) -> None:
    assert newest_version(text) == version


def named_commands(readme: str) -> set[str]:
    """Return the subcommands of `tvbus` that code in the text uses."""
    blocks = re.findall(r"^```.*?^```", readme, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", readme, flags=re.MULTILINE | re.DOTALL)
    code = "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", prose)])
    return set(re.findall(r"(?:^|[\s$;&|/])tvbus ([a-z]+)(?=\s|$)", code, re.MULTILINE))


def test_commands_are_found_in_blocks_and_in_code_but_not_in_prose() -> None:
    block = "```sh\n$ .venv/bin/tvbus demo\ndocker run tvbus publish\n```\n"
    text = f"tvbus sings.\n`tvbus tail X`, `x`\n{block}"
    assert named_commands(text) == {"tail", "demo", "publish"}


def test_every_command_of_the_readme_exists() -> None:
    commands = named_commands((ROOT / "README.md").read_text(encoding="utf-8"))
    shown = subprocess.run(
        [sys.executable, "-m", "tvbus", "--help"], capture_output=True, text=True, check=True
    )
    existing = set(re.findall(r"^[\s│|]*([a-z]+)\b", shown.stdout, re.MULTILINE))
    assert commands <= existing, f"not in tvbus --help: {sorted(commands - existing)}"


@pytest.mark.parametrize(
    ("reason", "ci", "refused"),
    [
        ("Skipped: missing tool: redis-server", "true", True),
        ("missing tool: redis-server", "1", True),
        ("Skipped: missing tool: redis-server", "", False),
        ("Skipped: only on Windows", "true", False),
    ],
)
def test_a_skip_for_a_missing_tool_is_a_failure_in_ci(reason: str, ci: str, refused: bool) -> None:
    assert is_refused(reason, {"CI": ci}) is refused


@pytest.mark.parametrize(
    "statement", ["", "pytest.skip('missing tool: x', allow_module_level=True)"]
)
def test_a_run_in_ci_fails_where_a_tool_is_missing(tmp_path: Path, statement: str) -> None:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        f"import pytest\n{statement}\ndef test_it(): pytest.skip('missing tool: x')\n"
    )
    codes = [
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
            env={"PATH": "", "CI": ci},
            cwd=tmp_path,
            capture_output=True,
            check=False,
        ).returncode
        for ci in ("true", "")
    ]
    assert codes[0] in {1, 2}
    assert codes[1] in {0, 5}
