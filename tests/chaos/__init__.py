"""Random faults upon real processes, and a record of its own that judges what came of it."""
