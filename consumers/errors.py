"""Everything that can go wrong in a consumer.

ConsumerError (retryable = False)
├ UsageError            the program or the command line asks for what cannot be
│ ├ StartInvalid        not one of the four start positions
│ ├ StartRequired       a group sees a series for the first time and nobody said where to start
│ ├ PatternInvalid      neither a series nor a pattern
│ ├ HandlerInvalid      not a function that takes what it is registered for
│ ├ ArgumentInvalid     an argument of the classes for tvDatafeed's users; a ValueError too
│ ├ TargetInvalid       `module:function` leads nowhere
│ ├ NameTaken           another process came with this member's name
│ ├ FrameUnavailable    pandas is not installed
│ └ LetterIdInvalid     not the ID of a dead letter
├ RequestRefused        the running publisher does not do what was asked of it
│ ├ SymbolUnknown       for TradingView does not know the symbol; a ValueError too
│ └ RequestOverdue*     within the time that the caller gave it
├ GroupUnknown          no such consumer group on this bus
├ LetterUnknown         the group has no dead letter with this ID
├ EntryInvalid          an entry cannot be decoded → dead letter at once
├ HandlerFailed         a handler failed, and the policy is to stop then
├ StreamRefused         the key holds something else; that series only
├ Fenced                another member took the series over; let it go, never retry
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
    """The handler is not a function that takes what it is registered for."""


class ArgumentInvalid(UsageError, ValueError):
    """A method of the classes for tvDatafeed's users cannot take this value."""


class TargetInvalid(UsageError):
    """The text `module:function` does not lead to a function."""


class NameTaken(UsageError):
    """Another process has come with the same name in the same group."""


class FrameUnavailable(UsageError):
    """A data frame was asked for without pandas."""


class RequestRefused(ConsumerError):
    """The publisher said no to a request, or nothing; its message says why."""


class SymbolUnknown(RequestRefused, ValueError):
    """TradingView does not know the symbol on that exchange."""


class RequestOverdue(RequestRefused):
    """The answer did not come in time; it may be on its way."""

    retryable = True


class LetterIdInvalid(UsageError):
    """The text cannot be the ID of a dead letter."""


class GroupUnknown(ConsumerError):
    """The bus knows no consumer group of this name."""


class LetterUnknown(ConsumerError):
    """The group has no such dead letter."""


class EntryInvalid(ConsumerError):
    """An entry of the bus cannot be decoded."""


class HandlerFailed(ConsumerError):
    """A handler failed as often as it may, and the consumer was told to stop then.

    The entry stays pending; what the handler raised is chained.
    """


class StreamRefused(ConsumerError):
    """The key of a series does not hold a stream."""


class Fenced(ConsumerError):
    """The stream was taken over with a higher fencing token: nothing was done."""

    def __init__(self, message: str, token: int) -> None:
        """Keep the highest token that the stream has seen."""
        super().__init__(message)
        self.token = token


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
