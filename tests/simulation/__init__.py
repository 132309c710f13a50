"""The deterministic simulation: real engine, store, lease and consumers; all else by one seed."""
