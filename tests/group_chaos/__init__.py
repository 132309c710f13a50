"""A hundred series shared by members that come, go, die and sleep: `make group-chaos`."""
