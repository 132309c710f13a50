"""For programs written for tvDatafeed: the same names and signatures, on the bus.

from consumers.tvdatafeed import TvDatafeed, TvDatafeedLive, Interval

History and searches are asked of the running publisher, live bars are read from its
streams. What differs is in `docs/migration.md`. Without pandas the import raises
FrameUnavailable.
"""

from consumers.tvdatafeed.consumer import Consumer
from consumers.tvdatafeed.datafeed import TvDatafeedLive
from consumers.tvdatafeed.main import Interval, TvDatafeed
from consumers.tvdatafeed.seis import Seis

__all__ = ["Consumer", "Interval", "Seis", "TvDatafeed", "TvDatafeedLive"]
