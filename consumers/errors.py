"""Everything that can go wrong in a consumer.

ConsumerError (retryable = False)
├ UsageError            the program or the command line asks for what cannot be
│ ├ StartInvalid        not one of the four start positions
│ ├ StartRequired       a group sees a series for the first time and nobody said where to start
│ ├ PatternInvalid      neither a series nor a pattern
│ ├ HandlerInvalid      not a function that takes a bar
│ ├ ArgumentInvalid     an argument of the classes for tvDatafeed's users; a ValueError too
│ ├ TargetInvalid       `module:function` leads nowhere
│ └ FrameUnavailable    pandas is not installed
├ RequestRefused        the running publisher does not do what was asked of it
│ ├ SymbolUnknown       for TradingView does not know the symbol; a ValueError too
│ └ RequestOverdue*     within the time that the caller gave it
├ EntryInvalid          an entry cannot be decoded → dead letter at once
├ StreamRefused         the key holds something else; that series only
├ SinkError
│ ├ SinkUnavailable*    the sink cannot take the bar now
│ └ SinkRejected        it never will
├ GroupUnavailable*     the bus cannot be reached, or not now
└ GroupLost*            the group or its stream is gone: make it again

`*` sets `retryable = True`. Callers read the attribute, never a list of types.
"""

from __future__ import annotations

from typing import ClassVar


class ConsumerError(Exception):
    """The root; its message says what is wrong, shows the value and says what to do."""

    retryable: ClassVar[bool] = False


class UsageError(ConsumerError):
    """The consumer was asked for something that cannot be."""


class StartInvalid(UsageError):
    """The text is none of the four start positions."""


class StartRequired(UsageError):
    """A group sees a series for the first time, and no start position was chosen."""


class PatternInvalid(UsageError):
    """The text is neither a series nor a pattern of series."""


class HandlerInvalid(UsageError):
    """The handler is not a plain function that takes a bar."""


class ArgumentInvalid(UsageError, ValueError):
    """A method of the classes for tvDatafeed's users cannot take this value."""


class TargetInvalid(UsageError):
    """The text `module:function` does not lead to a function."""


class FrameUnavailable(UsageError):
    """A data frame was asked for without pandas."""


class RequestRefused(ConsumerError):
    """The publisher said no to a request, or nothing; its message says why."""


class SymbolUnknown(RequestRefused, ValueError):
    """TradingView does not know the symbol on that exchange."""


class RequestOverdue(RequestRefused):
    """The answer did not come in time; it may be on its way."""

    retryable = True


class EntryInvalid(ConsumerError):
    """An entry of the bus cannot be decoded."""


class StreamRefused(ConsumerError):
    """The key of a series does not hold a stream."""


class SinkError(ConsumerError):
    """A sink did not take a bar."""


class SinkUnavailable(SinkError):
    """The sink cannot take the bar now."""

    retryable = True


class SinkRejected(SinkError):
    """The sink will never take this bar."""


class GroupUnavailable(ConsumerError):
    """The server cannot be reached, or cannot serve the group now."""

    retryable = True


class GroupLost(ConsumerError):
    """The group or its stream does not exist any more."""

    retryable = True
