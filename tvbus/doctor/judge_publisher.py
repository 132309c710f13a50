"""What to think of the publisher that runs, as it tells the bus."""

from __future__ import annotations

from consumers.shell.publisher import LeaseReport, SessionReport
from tvbus.doctor.finding import Finding, note, ok, problem


def judge_publisher(lease: LeaseReport | None, session: SessionReport | None) -> Finding:
    """Say who publishes, as whom it reads TradingView, and what that plan allows."""
    check = "publisher"
    if lease is None:
        return note(check, "none is running", "start one with `tvbus publish`")
    if session is None:
        return ok(check, f"{lease.holder} publishes")
    if session.way is None:
        advice = "its log says why; `tvbus login` may help"
        return problem(check, f"{lease.holder} is not let in by TradingView", advice)
    anonymous = session.way == "anonymous"
    how = "anonymously" if anonymous else f"by {session.way}"
    told = f"{lease.holder} reads TradingView {how}"
    limits = [
        f"plan {session.plan}" if session.plan and not anonymous else "",
        f"{session.bars_max} intraday bars a series" if session.bars_max else "",
        f"{session.series_max} series" if session.series_max else "",
        f"{session.connections_max} connections" if session.connections_max else "",
    ]
    told = ", ".join([told, *filter(None, limits)])
    if not session.connected:
        return note(check, f"{told}; not connected now", "its log says why, and it tries again")
    return ok(check, told)
