"""Settings: who wins, where secrets come from, what a wrong one says."""

from __future__ import annotations

import io
from pathlib import Path
from typing import ClassVar

import pytest
import structlog
from pydantic import Field, SecretStr, model_validator

from bus import logs
from bus.errors import SettingsInvalid
from bus.settings import BusSettings


class Example(BusSettings):
    """Settings of an imaginary program."""

    secrets: ClassVar[tuple[str, ...]] = ("redis_url", "auth_token")

    auth_token: SecretStr | None = None
    pin: SecretStr | None = Field(None, min_length=4)
    rate_max: int = Field(5, ge=1)

    @model_validator(mode="after")
    def _check(self) -> Example:
        if self.rate_max == 13:
            raise ValueError("TVBUS_RATE_MAX must not be 13")
        return self


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "PREFIX", "STATE_DIR", "AUTH_TOKEN", "RATE_MAX", "PIN"):
        monkeypatch.delenv(f"TVBUS_{name}", raising=False)
        monkeypatch.delenv(f"TVBUS_{name}_FILE", raising=False)


def test_flags_win_over_the_file_and_the_file_over_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TVBUS_PREFIX", "environment")
    assert BusSettings.load().prefix == "environment"
    Path("tvbus.toml").write_text('prefix = "file"\n')
    assert BusSettings.load().prefix == "file"
    assert BusSettings.load(prefix="flag").prefix == "flag"
    assert BusSettings.load(prefix=None).prefix == "file"


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVBUS_PREFIX", "")
    assert BusSettings.load().prefix == "tv"


def test_a_secret_comes_from_the_file_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("secret").write_text("redis://:from-file@host\n")
    monkeypatch.setenv("TVBUS_REDIS_URL_FILE", "secret")
    url = BusSettings.load().redis_url
    assert url is not None
    assert url.get_secret_value() == "redis://:from-file@host"
    monkeypatch.setenv("TVBUS_REDIS_URL", "redis://direct")
    url = BusSettings.load().redis_url
    assert url is not None
    assert url.get_secret_value() == "redis://direct"


def test_only_secrets_have_files(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("prefix").write_text("other")
    monkeypatch.setenv("TVBUS_PREFIX_FILE", "prefix")
    assert BusSettings.load().prefix == "tv"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "TVBUS_REDIS_URL_FILE: secret cannot be read: No such file or directory"),
        (b"", "TVBUS_REDIS_URL_FILE: secret is empty"),
        (b"\xff\xfe", "TVBUS_REDIS_URL_FILE: secret is not UTF-8 text"),
    ],
)
def test_a_secret_file_that_cannot_be_used_is_named(
    content: bytes | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        Path("secret").write_bytes(content)
    monkeypatch.setenv("TVBUS_REDIS_URL_FILE", "secret")
    with pytest.raises(SettingsInvalid) as caught:
        BusSettings.load()
    assert str(caught.value) == message


def test_a_wrong_setting_is_one_line_with_its_name_and_value(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TVBUS_LOG_LEVEL", "loud")
    with pytest.raises(SettingsInvalid) as caught:
        BusSettings.load()
    text = str(caught.value)
    assert text.startswith("TVBUS_LOG_LEVEL: ")
    assert "'loud'" in text
    assert "\n" not in text


@pytest.mark.parametrize("prefix", ["", "a b", "a{b}", "a%", "ä"])
def test_a_prefix_that_would_break_keys_is_refused(prefix: str) -> None:
    with pytest.raises(SettingsInvalid, match="TVBUS_PREFIX"):
        BusSettings.load(prefix=prefix)


def test_a_settings_file_that_is_not_toml_is_one_line() -> None:
    Path("tvbus.toml").write_text("prefix = \n")
    with pytest.raises(SettingsInvalid, match=r"^tvbus\.toml cannot be read: .*line 1"):
        BusSettings.load()


def test_a_settings_file_that_is_not_text_is_one_line() -> None:
    Path("tvbus.toml").write_bytes(b"prefix = '\xff'")
    with pytest.raises(SettingsInvalid, match=r"^settings cannot be read: "):
        BusSettings.load()


@pytest.mark.parametrize(
    "toml", ["auth_token = 7654321", "pin = '123'", "pin = 765432", "rate_max = 13"]
)
def test_a_wrong_secret_is_never_shown(toml: str) -> None:
    Path("tvbus.toml").write_text(f"{toml}\n")
    with pytest.raises(SettingsInvalid) as caught:
        Example.load(redis_url="redis://:hush-hush@host")
    assert "hush" not in str(caught.value)
    assert "76543" not in str(caught.value)
    assert "123" not in str(caught.value)


def test_a_rule_about_several_settings_says_only_its_text() -> None:
    with pytest.raises(SettingsInvalid) as caught:
        Example.load(rate_max=13)
    assert str(caught.value) == "TVBUS_RATE_MAX must not be 13"


def test_a_secret_is_not_in_a_repr() -> None:
    settings = Example.load(auth_token="hush-hush", redis_url="redis://:hush-hush@host")
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings)


def test_loaded_secrets_never_reach_a_log() -> None:
    stream = io.StringIO()
    Example.load(auth_token="hush-token", redis_url="redis://user:hush%20hush@host:6379/0")
    logs.configure("json", "info", stream)
    structlog.get_logger().info("a.b", one="<hush-token>", two="hush hush", three="hush%20hush")
    assert "hush" not in stream.getvalue()


def test_the_state_directory_may_begin_with_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert BusSettings.load(state_dir="~/bus").state_dir == Path("/home/somebody/bus")
    with pytest.raises(SettingsInvalid, match="TVBUS_STATE_DIR"):
        BusSettings.load(state_dir="~nobody-of-this-name/bus")


def test_settings_cannot_be_changed() -> None:
    settings = BusSettings.load()
    with pytest.raises(ValueError, match="frozen"):
        settings.prefix = "other"
