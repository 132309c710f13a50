"""Tests of the way to the bus, over real servers."""
