"""`tvbus simulate` as a process: what it tells is where people can sign in and search."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyotp
import pytest
import requests

ORIGIN = "https://www.tradingview.com"
FREE = ("--port", "0", "--web-port", "0")
WAIT_S = 20


@contextmanager
def simulate(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TVBUS_")}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "TVBUS_STATE_DIR": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-m", "tvbus", "simulate", *arguments],
        env=environment,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


@contextmanager
def browser() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        session.headers.update({"Referer": f"{ORIGIN}/", "Origin": ORIGIN})
        yield session


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def sign_in(session: requests.Session, url: str, name: str, password: str) -> dict[str, Any]:
    form = {"username": name, "password": password, "remember": "on"}
    response = session.post(f"{url}/accounts/signin/", data=form, timeout=WAIT_S)
    answer: dict[str, Any] = response.json()
    return answer


def test_the_addresses_are_told_as_json_and_work(tmp_path: Path) -> None:
    accounts = ("--account", "me:mine", "--account", "you:yours", "--token-life-s", "60")
    with simulate(tmp_path, *FREE, *accounts, "--json") as process, browser() as session:
        told = json.loads(line(process))
        assert set(told) == {"url", "web_url", "search_url"}
        assert told["url"].startswith("ws://127.0.0.1:")
        assert sign_in(session, told["web_url"], "demo", "demo")["code"] == "invalid_credentials"
        assert sign_in(session, told["web_url"], "you", "yours")["error"] == ""
        token = sign_in(session, told["web_url"], "me", "mine")["user"]["auth_token"]
        body = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        assert claims["exp"] - claims["iat"] == 60
        found = session.get(
            f"{told['search_url']}/symbol_search/v3/", params={"text": "AAPL"}, timeout=WAIT_S
        )
        assert found.json()["symbols"][0]["symbol"] == "AAPL"


def test_without_an_account_there_is_one_to_try_with_what_it_needs(tmp_path: Path) -> None:
    with simulate(tmp_path, *FREE) as process, browser() as session:
        lines = [line(process) for _ in range(3)]
        url = lines[1].rpartition(" ")[2]
        told = re.fullmatch(r"account '(.+)', password '(.+)', TOTP secret (\S+)", lines[2])
        assert told is not None, lines
        assert sign_in(session, url, told[1], told[2])["code"] == "2FA_required"

        class App(pyotp.TOTP):
            def byte_secret(self) -> bytes:
                return base64.b32decode(self.secret)

        code = {"code": App(told[3]).now()}
        response = session.post(
            f"{url}/accounts/two-factor/signin/totp/", data=code, timeout=WAIT_S
        )
        assert response.json()["user"]["username"] == told[1]


@pytest.mark.parametrize(
    ("accounts", "words"),
    [
        (["geheim"], "NAME:PASSWORD"),
        ([":geheim"], "NAME:PASSWORD"),
        (["me:geheim:AAAA:BBBB"], "NAME:PASSWORD"),
        (["me:geheim:0189"], "base32"),
        (["me:geheim", "me:geheim2"], "twice"),
    ],
)
def test_a_wrong_account_is_told_in_one_line_that_does_not_show_it(
    tmp_path: Path, accounts: list[str], words: str
) -> None:
    arguments = [part for account in accounts for part in ("--account", account)]
    with simulate(tmp_path, *FREE, *arguments) as process:
        output, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 2
    assert output == ""
    assert errors.count("\n") == 1
    assert words in errors
    assert "geheim" not in errors


def test_a_taken_web_port_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with simulate(tmp_path, "--port", "0", "--web-port", port) as process:
            _, errors = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert port in errors
    assert "choose another --port or --web-port" in errors
