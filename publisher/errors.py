"""Everything that can go wrong in the publisher.

PublisherError (retryable = False)
├ SignInError                       TradingView does not let us in: a person must act
│ ├ CredentialsRejected             user name, password, code or secret are wrong
│ ├ ChallengeRequired               a captcha, or a factor that only a person has
│ ├ SessionExpired                  token or cookies are accepted no longer
│ ├ AccountStopped                  banned: never tried again
│ └ SignInThrottled*                too many sign-ins: wait
├ TransportError*                   the way to TradingView
│ ├ ConnectFailed*                  no connection was made
│ │ └ ConnectThrottled*             there are too many, or too fast
│ ├ ConnectionLost*                 it was there and ended
│ └ PeerSilent*                     it is there and mute
├ ProtocolError
│ ├ LocalProtocolError              we misused the protocol: our bug, stop
│ └ RemoteProtocolError*            the peer did: reconnect
├ SeriesError                       this series only; the others live
│ ├ SymbolUnknown
│ └ SeriesRefused
└ StoreError                        the bus
  ├ StoreUnavailable*               not done; try again
  ├ AppendUnknown*                  the reply was lost: try again with the same ID
  ├ StreamDiverged                  the stream is not what we left: read it again
  ├ StoreRefused                    this key holds something else; that series only
  └ Fenced                          another publisher took over: step down

`*` sets `retryable = True`. Callers read the attribute, never a list of types.
"""

from __future__ import annotations

from typing import ClassVar


class PublisherError(Exception):
    """The root; its message says what is wrong, shows the value and says what to do."""

    retryable: ClassVar[bool] = False


class SignInError(PublisherError):
    """TradingView does not let us in; unless it is retryable, a person must act."""


class CredentialsRejected(SignInError):
    """User name, password, code or secret are wrong."""


class ChallengeRequired(SignInError):
    """TradingView wants something that only a person can give."""


class SessionExpired(SignInError):
    """A token or cookies that were good are accepted no longer."""


class AccountStopped(SignInError):
    """TradingView banned the account or this address; nothing tries again by itself."""


class SignInThrottled(SignInError):
    """There were too many sign-ins; another may follow later."""

    retryable = True

    def __init__(self, message: str, retry_at_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_at_ms = retry_at_ms
        """When another may follow, ms since the epoch by the machine's clock, where known."""


class TransportError(PublisherError):
    """The connection to TradingView cannot be used."""

    retryable = True


class ConnectFailed(TransportError):
    """No connection could be made."""


class ConnectThrottled(ConnectFailed):
    """TradingView lets no more connections in now (HTTP 429)."""


class ConnectionLost(TransportError):
    """The connection ended, cleanly or not."""


class PeerSilent(TransportError):
    """The connection stands but nothing comes."""


class ProtocolError(PublisherError):
    """What was said does not follow the protocol."""


class LocalProtocolError(ProtocolError):
    """This program asked its own session for something impossible."""


class RemoteProtocolError(ProtocolError):
    """The peer sent what cannot be understood, or ended the session."""

    retryable = True


class SeriesError(PublisherError):
    """One series cannot be published; the others go on."""


class SymbolUnknown(SeriesError):
    """TradingView does not know the symbol on that exchange."""


class SeriesRefused(SeriesError):
    """TradingView knows the symbol and refuses the series."""


class StoreError(PublisherError):
    """The bus did not do what was asked."""


class StoreUnavailable(StoreError):
    """The bus cannot be reached or cannot write; nothing was done."""

    retryable = True


class AppendUnknown(StoreError):
    """The reply was lost: the append may or may not have happened."""

    retryable = True


class StreamDiverged(StoreError):
    """The stream's end is not the one that this publisher left."""


class StoreRefused(StoreError):
    """A key of this series holds something that is not ours."""


class Fenced(StoreError):
    """A publisher with a higher fencing token owns the stream."""
