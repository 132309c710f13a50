"""Read closed bars from the bus: as they come, in a group, or once.

from consumers import Consumer

app = Consumer(group="my-strategy", start="newest")

@app.on("*-BINANCE-1m")
def trade(bar): ...

app.run()
"""

from consumers.app import Consumer
from consumers.core.backoff import Backoff
from consumers.errors import ConsumerError
from consumers.follow import follow
from consumers.history import read_bars, read_frame
from consumers.shell.threads import Tuning
from consumers.target import load_target
from publisher.wire import Bar, Series

__all__ = [
    "Backoff",
    "Bar",
    "Consumer",
    "ConsumerError",
    "Series",
    "Tuning",
    "follow",
    "load_target",
    "read_bars",
    "read_frame",
]
