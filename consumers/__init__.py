"""Read closed bars from the bus: as they come, in a group, or once.

from consumers import Consumer

app = Consumer(group="my-strategy", start="newest")

@app.on("*-BINANCE-1m")
def trade(bar): ...

app.run()
"""

from consumers import errors
from consumers.app import Consumer
from consumers.context import Context
from consumers.core.backoff import Backoff
from consumers.core.work import Gap
from consumers.errors import ConsumerError
from consumers.follow import follow
from consumers.history import read_bars, read_frame
from consumers.join import join
from consumers.shell.threads import Tuning
from consumers.target import load_target
from publisher.wire import Bar, Series

__all__ = [
    "Backoff",
    "Bar",
    "Consumer",
    "ConsumerError",
    "Context",
    "Gap",
    "Series",
    "Tuning",
    "errors",
    "follow",
    "join",
    "load_target",
    "read_bars",
    "read_frame",
]
