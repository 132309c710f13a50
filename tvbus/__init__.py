"""The command line: the one place that knows both sides of the bus."""
