"""Decisions as pure values: no clock, no random source, no I/O; time is passed in."""
