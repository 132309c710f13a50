"""The publisher's settings: what is refused, and what never shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from bus import logs
from bus.errors import SettingsInvalid
from publisher.settings import SERIES_MAX, AccountSettings, PublisherSettings
from publisher.wire import Series


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in PublisherSettings.model_fields:
        monkeypatch.delenv(f"TVBUS_{name.upper()}", raising=False)
        monkeypatch.delenv(f"TVBUS_{name.upper()}_FILE", raising=False)
    yield
    logs.forget_secrets()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"series": "BTCUSDT-BINANCE-7x"}, "interval must be one of"),
        ({"series": "BTCUSDT"}, "is not a series"),
        ({"series": ",".join(f"A{i}-B-1m" for i in range(SERIES_MAX + 1))}, "at most 5000 series"),
        ({"ws_url": "ws://example.com/"}, "plain ws:// is for this machine only"),
        ({"ws_url": "ws://127.0.0.1.example.com/"}, "plain ws:// is for this machine only"),
        ({"ws_url": "https://example.com/"}, "must be a wss:// address"),
        ({"ws_url": "wss:///path"}, "must be a wss:// address"),
        ({"ws_url": "wss://example.com:99999/"}, "TVBUS_WS_URL"),
        ({"listen": "9464"}, "must be HOST:PORT"),
        ({"listen": "127.0.0.1:http"}, "must be HOST:PORT"),
        ({"listen": "127.0.0.1:70000"}, "must be HOST:PORT"),
        ({"history_bars": -1}, "TVBUS_HISTORY_BARS"),
        ({"history_bars": 50_000}, "TVBUS_HISTORY_BARS"),
        ({"retain_bars": -1}, "TVBUS_RETAIN_BARS"),
        ({"retain_days": 40_000}, "TVBUS_RETAIN_DAYS"),
        ({"history_bars": 500, "retain_bars": 100}, "must not be smaller than TVBUS_HISTORY_BARS"),
        ({"encoding": "xml"}, "TVBUS_ENCODING"),
        ({"web_url": "http://example.com"}, "plain http:// is for this machine only"),
        ({"search_url": "wss://example.com"}, "must be a https:// address"),
        ({"signins_per_hour_max": 0}, "TVBUS_SIGNINS_PER_HOUR_MAX"),
        ({"signins_per_hour_max": 5}, "must not be greater than TVBUS_SIGNINS_PER_DAY_MAX"),
        ({"history_requests_per_hour_max": -1}, "TVBUS_HISTORY_REQUESTS_PER_HOUR_MAX"),
        ({"settle_ms": 600_001}, "TVBUS_SETTLE_MS"),
        ({"prefix": "a b"}, "TVBUS_PREFIX"),
    ],
)
def test_each_wrong_setting_is_refused_in_one_line_that_names_it(
    flags: dict[str, object], words: str
) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        PublisherSettings.load(**flags)
    message = str(caught.value)
    assert words in message
    assert "TVBUS_" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["username"], "TVBUS_PASSWORD is missing"),
        (["password"], "TVBUS_USERNAME is missing"),
        (["totp_secret"], "give TVBUS_USERNAME and TVBUS_PASSWORD"),
        (["sessionid"], "TVBUS_SESSIONID_SIGN is missing"),
        (["sessionid_sign"], "TVBUS_SESSIONID is missing"),
    ],
)
def test_half_of_a_pair_of_credentials_is_refused_without_showing_it(
    names: list[str], words: str
) -> None:
    with pytest.raises(SettingsInvalid, match=words) as caught:
        PublisherSettings.load(**dict.fromkeys(names, "hunter2"))
    assert "hunter2" not in str(caught.value)
    assert AccountSettings.load(**dict.fromkeys(names, "hunter2")) is not None


@pytest.mark.parametrize("name", [n for n in PublisherSettings.secrets if n != "redis_url"])
def test_a_secret_may_stand_in_a_file_and_never_shows(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "secret"
    path.write_text("hunter2\n")
    monkeypatch.setenv(f"TVBUS_{name.upper()}_FILE", str(path))
    monkeypatch.setenv("TVBUS_AUTH_TOKEN", "t0ken") if name != "auth_token" else None
    settings = AccountSettings.load()
    assert getattr(settings, name).get_secret_value() == "hunter2"
    for text in (
        repr(settings),
        str(settings),
        str(settings.model_dump()),
    ):
        assert "hunter2" not in text
        assert "t0ken" not in text


def test_series_are_read_in_both_spellings_and_once_each() -> None:
    text = " btcusdt-binance-1m, BINANCE:BTCUSDT@1m,,AAPL-NASDAQ-1d+extended "
    settings = PublisherSettings.load(series=text)
    assert settings.series == (
        Series("BTCUSDT", "BINANCE", "1m"),
        Series("AAPL", "NASDAQ", "1D", extended=True),
    )


def test_a_series_that_is_parsed_already_is_taken_as_it_is() -> None:
    series = Series("BTCUSDT", "BINANCE", "1m")
    assert PublisherSettings.load(series=(series,)).series == (series,)


@pytest.mark.parametrize("url", ["ws://localhost:1/", "ws://127.0.0.9:1/", "ws://[::1]:1/"])
def test_plain_websockets_on_this_machine_are_let_in(url: str) -> None:
    assert PublisherSettings.load(ws_url=url).ws_url == url


def test_nothing_said_means_nothing_secret_and_no_limits_broken() -> None:
    settings = PublisherSettings.load()
    assert settings.series == ()
    assert settings.retain_bars >= settings.history_bars
    assert PublisherSettings.load(listen="").listen == ""
    assert PublisherSettings.load(retain_bars=0, history_bars=40_000).retain_bars == 0
