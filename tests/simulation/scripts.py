"""Which of the consumers' scripts a command calls; planted bugs may have changed their texts."""

from __future__ import annotations

from typing import Any

from consumers.shell import group as group_scripts
from consumers.shell import membership


def script_of(command: tuple[Any, ...]) -> str:
    """Return which of the consumers' scripts a command calls, empty where it calls none."""
    if command[0] != "EVALSHA":
        return ""
    scripts = {
        group_scripts._TAKE_OVER: "take_over",
        group_scripts._SERVE: "serve",
        group_scripts._RETRY: "retry",
        group_scripts._HAND_OVER: "hand_over",
        group_scripts._CHECKPOINT: "checkpoint",
        membership._BEAT: "beat",
        membership._LEAVE: "leave",
    }
    return next((name for script, name in scripts.items() if script.sha == command[1]), "")
