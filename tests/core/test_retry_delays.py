"""Delays between attempts grow, are bounded, and are never next to nothing."""

from __future__ import annotations

import random

from publisher.core.backoff import Backoff


def test_delays_double_up_to_the_bound_and_half_of_each_is_certain() -> None:
    rng = random.Random(7)
    for _ in range(50):
        backoff = Backoff(100, 1_000)
        for ceiling in (100, 200, 400, 800, 1_000, 1_000):
            assert ceiling // 2 <= backoff.next_delay_ms(rng) <= ceiling


def test_a_success_begins_again_with_the_shortest() -> None:
    rng = random.Random(7)
    backoff = Backoff(100, 1_000_000)
    for _ in range(10):
        backoff.next_delay_ms(rng)
    backoff.reset()
    assert backoff.next_delay_ms(rng) <= 100


def test_any_number_of_attempts_is_fine() -> None:
    backoff = Backoff(100, 1_000, attempt=10**6)
    assert backoff.next_delay_ms(random.Random(7)) <= 1_000
