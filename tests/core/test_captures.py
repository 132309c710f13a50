"""Every recorded file means what it says, or is refused by name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import recordings
from recordings import needs_recordings

from publisher.core import messages as said
from publisher.core.frames import Splitter
from publisher.core.parsing import parse
from publisher.errors import RemoteProtocolError

pytestmark = needs_recordings

HELLO, BEAT, LOADING = said.Hello, said.Heartbeat, said.SeriesLoading
RESOLVED, UNKNOWN_SYMBOL = said.SymbolResolved, said.SymbolRefused
BARS, COMPLETED, REFUSED = said.BarsReceived, said.SeriesCompleted, said.SlotRefused
CHART, ENDED, IGNORED, UNKNOWN = (
    said.ChartRefused,
    said.ConnectionRefused,
    said.Ignored,
    said.Unknown,
)

NOT_JSON = "a payload must be JSON"
NOT_OBJECT = "a payload must be a JSON object"
NO_KIND = "a payload must have 'm'"

WHOLE_SESSION = [HELLO, LOADING, RESOLVED, BARS, COMPLETED]

MEANS: dict[str, list[type] | str] = {
    "010-session-anon-1D-AAPL-wsmessages.json": WHOLE_SESSION,
    "011-hello-2026-08.framed.txt": [HELLO],
    "012-series_loading.json": [LOADING],
    "013-symbol_resolved-NASDAQ-AAPL-anon.json": [RESOLVED],
    "014-timescale_update-1D-AAPL.json": [BARS],
    "015-series_completed-streaming-free.json": [COMPLETED],
    "016-invalid-symbol-wsmessages.json": [HELLO, LOADING, UNKNOWN_SYMBOL, REFUSED],
    "017-symbol_error-invalid-symbol.json": [UNKNOWN_SYMBOL],
    "018-series_error-resolve-error.json": [REFUSED],
    "019-heartbeat-batched-with-data-wsmessages.json": [HELLO, BEAT, *WHOLE_SESSION[1:]],
    "020-client-frames-chart-session-15m.framed.txt": [UNKNOWN] * 4,
    "021-hello-2026-06-redacted-session.json": [HELLO],
    "022-symbol_resolved-BYBIT-BTCUSDT.P.json": [RESOLVED],
    "023-timescale_update-15m-300bars-volume.json": [BARS],
    "024-series_completed-streaming-paid.json": [COMPLETED],
    "025-study_loading.json": [IGNORED],
    "026-du-study-rsi-1e100.json": [BARS],
    "027-study_completed.json": [IGNORED],
    "028-symbol_error-live-probe.json": [UNKNOWN_SYMBOL],
    "030-timescale_update-1m-DJI-volume.json": [BARS],
    "031-timescale_update-1m-NDX-no-volume-delayed.json": [BARS],
    "032-timescale_update-1m-24h-no-volume.json": [BARS],
    "033-timescale_update-1D-SPX-368bars.json": [BARS],
    "034-series_timeframe-all.framed.txt": [IGNORED] * 8,
    "035-series_completed-variants.framed.txt": [COMPLETED] * 6,
    "036-symbol_resolved-SP-SPX.json": [RESOLVED],
    "037-symbol_resolved-TVC-RUT.json": [RESOLVED],
    "038-qsd-NDX-volume-1e100.framed.txt": [IGNORED],
    "039-qsd-others.framed.txt": [IGNORED] * 4,
    "040-quote_completed.framed.txt": [IGNORED] * 5,
    "041-modify_series-sequence-VCB-kinds.json": NOT_OBJECT,
    "042-timescale_update-empty-series.json": [BARS],
    "043-symbol_resolved-HOSE-VCB.json": [RESOLVED],
    "044-qsd-VCB-full.json": [IGNORED],
    "045-qsd-VCB-delta.json": [IGNORED],
    "046-timescale_update-60m-VCB-delayed.json": [BARS],
    "047-timescale_update-future-tickmarks-VCB.json": [BARS],
    "048-series_completed-delayed_streaming_900.json": [COMPLETED],
    "049-du-study-empty.json": [BARS],
    "060-signin-2FA_required.json": NO_KIND,
    "061-signin-invalid_totp.json": NO_KIND,
    "062-signin-invalid_credentials.json": NO_KIND,
    "063-signin-success.json": NO_KIND,
    "064-signin-recaptcha_required.json": NO_KIND,
    "065-auth_token-jwt-claims-premium-2025.json": NO_KIND,
    "070-symbol_resolved-BITSTAMP-BTCUSD.framed.txt": [RESOLVED],
    "071-series_loading.framed.txt": [LOADING],
    "072-series_completed-data_completed-limit.json": [COMPLETED],
    "073-critical_error-create_series-invalid-parameters.framed.txt": [CHART],
    "074-protocol_error-bad-auth-token.framed.txt": [ENDED],
    "075-client-frames-misc.framed.txt": [UNKNOWN] * 4,
    "076-timescale_update-1D-no-volume-reconstructed.json": [BARS],
    "080-timescale_update-1h-BTC-2022.py-repr.txt": [BARS],
    "081-du-forming-bar-BTC-2022.py-repr.txt": [BARS],
    "090-live-5m-bar-rollover-BTCUSDT.jsonl": [COMPLETED, *[BARS] * 10],
    "091-live-timescale_update-future-tickmarks-during-stream.jsonl": [BARS],
    "092-du-nochange-with-framing.framed.txt": [BARS],
    "093-du-nochange-i9.py-repr.txt": [BARS],
    "094-du-nochange-tvkit.py-repr.txt": [BARS],
    "095-du-turnaround-s3.json": [BARS],
    "100-symbol_error-permission-denied-group.json": [UNKNOWN_SYMBOL],
    "101-qsd-permission_denied.json": [IGNORED],
    "102-study_error.json": [IGNORED],
    "103-series_error-seconds_not_entitled.json": [REFUSED],
    "104-series_error-custom_resolution.json": [REFUSED],
    "105-series_error-unsupported-resolution.json": [REFUSED],
    "106-refusal-order-ECONOMICS-USM2.json": NOT_OBJECT,
    "107-series_error-resolve-error.py-repr.txt": [REFUSED],
    "108-qsd-no_such_symbol.py-repr.txt": [IGNORED],
    "109-qsd-BTCUSDT-and-XAUUSD.py-repr.txt": [IGNORED] * 2,
    "110-critical_error-quote_add_symbols.json": [CHART],
    "111-protocol_error-unknown_session_id.txt": NOT_JSON,
    "112-error-strings-Mathieu-tests.json": NO_KIND,
    "113-critical_error-exceed-limit-of-series.txt": NOT_JSON,
    "120-qsd-currency-id.framed.txt": [IGNORED],
    "121-several-packets-one-ws-message.framed.txt": [IGNORED] * 4,
    "122-qsd-futures-snapshoter.framed.txt": [IGNORED] * 2,
    "123-nonascii-LEN-is-utf16-units.framed.txt": [IGNORED],
    "124-hello-2022.framed.txt": [HELLO],
    "125-hello-2026-09-partial.txt": NOT_JSON,
    "126-heartbeats.framed.txt": [BEAT] * 3,
    "130-search-v3-C.json": NO_KIND,
    "131-search-v3-GGAL.json": NO_KIND,
    "132-search-v1-items.txt": NOT_JSON,
    "133-ws-handshake-headers.txt": NOT_JSON,
}
"""What each recording is: the kinds of its messages, or why it is no message."""

READABLE = [name for name, means in MEANS.items() if isinstance(means, list)]
NOT_MESSAGES = {name: means for name, means in MEANS.items() if isinstance(means, str)}


def server_payloads(name: str) -> list[str]:
    """The payloads of a recording; of 020 those whose length was not edited."""
    if name.startswith("020"):
        lines = recordings.messages(name)
        return [payload for line in lines[1:5] for payload in recordings.unframe(line)]
    return recordings.payloads(name)


def test_the_table_names_every_recording_and_no_other() -> None:
    assert recordings.names() == sorted(MEANS)
    assert len(MEANS) == 85


@pytest.mark.parametrize("name", READABLE)
def test_a_recording_parses_to_its_kinds_and_values(name: str) -> None:
    payloads = server_payloads(name)
    parsed = [parse(payload) for payload in payloads]
    assert [type(message) for message in parsed] == MEANS[name]
    for payload, message in zip(payloads, parsed, strict=True):
        CHECKS[type(message)](payload, message)


@pytest.mark.parametrize("name", NOT_MESSAGES)
def test_what_is_no_websocket_message_is_refused_by_name(name: str) -> None:
    text = recordings.text(name)
    with pytest.raises(RemoteProtocolError) as refused:
        parse(text)
    assert str(refused.value).startswith(NOT_MESSAGES[name])
    assert repr(text[:20])[1:-1] in str(refused.value), "the message shows what came"
    with pytest.raises(RemoteProtocolError, match="must begin with ~m~LEN~m~"):
        Splitter().feed(text)
    for line in text.split("\n"):
        if line.strip():
            with pytest.raises(RemoteProtocolError):
                parse(line)


@pytest.mark.parametrize(
    "name", [name for name in READABLE if name.endswith((".framed.txt", "-wsmessages.json"))]
)
def test_recorded_frames_are_cut_where_a_browser_cuts_them(name: str) -> None:
    for message in recordings.messages(name)[1 if name.startswith("020") else 0 :]:
        if "create_study" in message:
            continue  # its length is that of a text which the recorder left out
        splitter = Splitter()
        assert splitter.feed(message) == recordings.unframe(message)
        assert splitter.rest == ""


# What a message must hold, read from the same JSON by other means.


def raw(payload: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(payload)
    return read


def check_hello(payload: str, message: said.Hello) -> None:
    body = raw(payload)
    assert message.session_id == body["session_id"]
    assert message.server_time_ms == body["timestampMs"]
    assert message.simulator_speed == 1


def check_heartbeat(payload: str, message: said.Heartbeat) -> None:
    assert message.payload == payload


def check_loading(payload: str, message: said.SeriesLoading) -> None:
    body = raw(payload)
    assert [message.session, message.slot, message.turnaround] == body["p"]
    assert message.server_time_ms == body["t_ms"]


def check_resolved(payload: str, message: said.SymbolResolved) -> None:
    body = raw(payload)
    session, symbol_id, stated = body["p"]
    info = message.info
    assert (message.session, message.symbol_id) == (session, symbol_id)
    assert message.server_time_ms == body.get("t_ms")
    assert (info.name, info.source) == (stated["pro_name"], stated["full_name"])
    assert (info.description, info.kind) == (stated["description"], stated["type"])
    assert info.currency == stated["currency_id"]
    assert (info.timezone, info.session) == (stated["timezone"], stated["session"])
    assert info.holidays == stated.get("session_holidays", "")
    assert (info.price_scale, info.minimum_move) == (stated["pricescale"], stated["minmov"])
    assert info.delay_ms == stated.get("delay", 0) * 1000
    assert info.has_volume == (stated["visible_plots_set"] == "ohlcv")
    used = [part for part in stated["subsessions"] if part["id"] == stated["subsession_id"]]
    assert info.corrections == (used[0].get("session-correction", "") if used else "")


def check_symbol_refused(payload: str, message: said.SymbolRefused) -> None:
    body = raw(payload)
    parts = [message.session, message.symbol_id, message.reason, *message.details]
    assert parts == body["p"]
    assert message.server_time_ms == body.get("t_ms")


def check_bars(payload: str, message: said.BarsReceived) -> None:
    body = raw(payload)
    assert message.session == body["p"][0]
    assert message.server_time_ms == body.get("t_ms")
    with_bars = {slot: part for slot, part in body["p"][1].items() if "s" in part}
    assert set(message.slots) == set(with_bars)
    for slot, part in with_bars.items():
        read = message.slots[slot]
        assert [list(values) for values in read.values] == [point["v"] for point in part["s"]]
        assert read.turnaround == part.get("t")
        end = part.get("lbs", {}).get("bar_close_time")
        assert read.close_time_ms == (None if end is None else end * 1000)


def check_completed(payload: str, message: said.SeriesCompleted) -> None:
    body = raw(payload)
    head = [message.session, message.slot, message.update_mode, message.turnaround]
    assert head == body["p"][:4]
    assert message.update_period_ms == body["p"][4]["rt_update_period"] * 1000
    assert message.exhausted == body["p"][4].get("data_completed")
    assert message.server_time_ms == body.get("t_ms")


def check_slot_refused(payload: str, message: said.SlotRefused) -> None:
    body = raw(payload)
    assert [message.session, message.slot, message.turnaround, message.reason] == body["p"][:4]
    assert message.server_time_ms == body.get("t_ms")


def check_chart_refused(payload: str, message: said.ChartRefused) -> None:
    assert [message.session, message.reason, message.details] == raw(payload)["p"]


def check_ended(payload: str, message: said.ConnectionRefused) -> None:
    assert [message.reason] == raw(payload)["p"]


def check_kind(payload: str, message: said.Ignored | said.Unknown) -> None:
    assert message.kind == raw(payload)["m"]


CHECKS: dict[type, Callable[[str, Any], None]] = {
    HELLO: check_hello,
    BEAT: check_heartbeat,
    LOADING: check_loading,
    RESOLVED: check_resolved,
    UNKNOWN_SYMBOL: check_symbol_refused,
    BARS: check_bars,
    COMPLETED: check_completed,
    REFUSED: check_slot_refused,
    CHART: check_chart_refused,
    ENDED: check_ended,
    IGNORED: check_kind,
    UNKNOWN: check_kind,
}


# A few values read by eye, so that the two readers cannot be wrong together.


def test_the_recorded_values_are_these() -> None:
    (bars,) = [parse(text) for text in recordings.payloads("014-timescale_update-1D-AAPL.json")]
    assert isinstance(bars, said.BarsReceived)
    slot = bars.slots["sds_1"]
    assert slot.values[-1] == (1787232600.0, 317.455, 320.28, 310.65, 311.3, 40959184.0)
    assert (slot.turnaround, slot.close_time_ms) == ("s1", 1_787_255_999_000)
    assert bars.server_time_ms == 1_787_292_487_429


def test_a_delayed_symbol_says_by_how_much() -> None:
    (vcb,) = [parse(text) for text in recordings.payloads("043-symbol_resolved-HOSE-VCB.json")]
    assert isinstance(vcb, said.SymbolResolved)
    assert (vcb.info.name, vcb.info.source) == ("HOSE:VCB", "HOSE_DLY:VCB")
    assert vcb.info.delay_ms == 900_000


def test_it_is_known_beforehand_that_a_symbol_has_no_volume() -> None:
    (rut,) = [parse(text) for text in recordings.payloads("037-symbol_resolved-TVC-RUT.json")]
    assert isinstance(rut, said.SymbolResolved)
    assert not rut.info.has_volume


def test_points_of_studies_are_no_bars() -> None:
    for name in ("026-du-study-rsi-1e100.json", "049-du-study-empty.json"):
        (study,) = [parse(text) for text in recordings.payloads(name)]
        assert isinstance(study, said.BarsReceived)
        assert study.slots == {}


def test_a_bar_without_a_number_for_a_price_costs_no_connection() -> None:
    payload = recordings.payloads("095-du-turnaround-s3.json")[0].replace("68474.52", "NaN")
    parsed = parse(payload)
    assert isinstance(parsed, said.BarsReceived)
    assert math.isnan(parsed.slots["sds_1"].values[0][1])


def test_the_error_that_is_quoted_in_prose_is_a_refusal_of_the_chart_session() -> None:
    quoted = recordings.text("113-critical_error-exceed-limit-of-series.txt").partition(": ")[2]
    reason = quoted.split("'")[1]
    assert reason == "exceed limit of series in the session"
    parsed = parse(json.dumps({"m": "critical_error", "p": ["cs_1", reason]}))
    assert parsed == said.ChartRefused("cs_1", reason, "")


def test_the_erlang_term_of_a_lost_session_ends_the_connection() -> None:
    term = recordings.text("111-protocol_error-unknown_session_id.txt")
    parsed = parse(json.dumps({"m": "protocol_error", "p": [term]}))
    assert parsed == said.ConnectionRefused(term)


def test_every_error_string_of_the_live_tests_is_a_refusal() -> None:
    strings = raw(recordings.text("112-error-strings-Mathieu-tests.json"))
    for reason, details in strings["critical_error"]:
        parsed = parse(json.dumps({"m": "critical_error", "p": ["cs_1", reason, details]}))
        assert parsed == said.ChartRefused("cs_1", reason, details)
    for reason in strings["series_error"]:
        body = {"m": "series_error", "p": ["cs_1", "sds_1", "s1", reason, "node"]}
        assert parse(json.dumps(body)) == said.SlotRefused("cs_1", "sds_1", "s1", reason, None)
