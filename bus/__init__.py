"""The way to the bus: its settings, its connections, the embedded server, the logs.

Both sides stand on this package; it knows neither of them.
"""
