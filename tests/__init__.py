"""The project's tests; `python -m tests.run` runs them all."""
