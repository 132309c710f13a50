"""What a command's end means to who called it.

0 success · 1 failure · 2 wrong use · 3 a person must act (captcha, second factor, ban)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final

import structlog

from bus.errors import BusError, SettingsInvalid
from bus.logs import redact
from consumers.errors import ConsumerError, UsageError
from publisher.errors import PublisherError, SignInError
from publisher.wire import SeriesInvalid

SUCCESS: Final = 0
FAILURE: Final = 1
WRONG_USE: Final = 2
PERSON_NEEDED: Final = 3

_WRONG_USE: Final = (SettingsInvalid, SeriesInvalid, UsageError)
_KNOWN: Final = (BusError, PublisherError, ConsumerError)


def exit_code(command: Callable[[], object]) -> int:
    """Run a command and return its exit code; what went wrong is one line on stderr."""
    try:
        command()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else SUCCESS
    except KeyboardInterrupt:
        return FAILURE
    except BrokenPipeError:
        # Whoever read our output has seen enough; the interpreter must not try again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SUCCESS
    except _WRONG_USE as error:
        return _fail(str(error), WRONG_USE)
    except SignInError as error:
        return _fail(str(error), FAILURE if error.retryable else PERSON_NEEDED)
    except _KNOWN as error:
        return _fail(str(error), FAILURE)
    except Exception as error:  # noqa: BLE001  # allow: the last line before the user
        structlog.get_logger("tvbus").debug("command.failed", exc_info=True)
        what = f"{type(error).__name__}: {error}"
        return _fail(f"unexpected, please report it: {what}", FAILURE)
    return SUCCESS


def _fail(message: str, code: int) -> int:
    line = " ".join(redact(message).split())
    sys.stderr.write(f"tvbus: {line}\n")
    return code
