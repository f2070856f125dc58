"""Usage scores and eviction, compared with values by hand and with counts of requests."""

import random
from collections import Counter

import pytest

from qwen3lab.streaming import eviction
from qwen3lab.streaming.eviction import UsageCounts

ANY = (0, 99)


def key(number: int) -> tuple[int, int]:
    return (0, number)


def hits(asks: list[int], room: int) -> int:
    """Number of cache hits under the rule of `WeightCache`."""
    counted, kept, found = UsageCounts(), set(), 0
    for number in asks:
        score = counted.count_request(key(number))
        if number in kept:
            found += 1
        elif len(kept) < room:
            kept.add(number)
            counted.add(key(number))
        elif (other := counted.pop_lowest(score, lambda _: True)) is not None:
            kept.remove(other[1])
            kept.add(number)
            counted.add(key(number))
    return found


def test_each_request_weighs_more_than_the_one_before() -> None:
    counted = UsageCounts()
    grows = 2 ** (1 / eviction.HALF_LIFE)
    assert counted.count_request(key(1)) == 0
    assert counted.count_request(ANY) == 0
    assert counted.count_request(key(1)) == pytest.approx(grows)
    assert counted.count_request(key(1)) == pytest.approx(grows + grows**3)


def test_after_one_half_life_a_request_weighs_twice_as_much() -> None:
    counted = UsageCounts()
    for number in (7, 8, 9):
        counted.add(key(number))
    counted.count_request(key(1))
    for _ in range(3 * eviction.HALF_LIFE - 1):
        counted.count_request(ANY)
    counted.count_request(key(2))
    assert counted.count_request(key(2)) == pytest.approx(2 * counted.count_request(key(1)))


def test_only_units_with_a_lower_score_are_evicted_lowest_first() -> None:
    counted = UsageCounts()
    for number in (1, 1, 1, 2, 2, 3):
        counted.count_request(key(number))
    for number in (1, 2, 3):
        counted.add(key(number))
    assert counted.pop_lowest(0.5, lambda _: True) is None
    assert counted.pop_lowest(10.0, lambda unit: unit != key(3)) == key(2)
    assert counted.pop_lowest(10.0, lambda _: True) == key(3)
    assert counted.pop_lowest(10.0, lambda _: True) == key(1)
    assert counted.pop_lowest(10.0, lambda _: True) is None


def test_eviction_compares_the_current_score_of_a_kept_unit() -> None:
    counted = UsageCounts()
    counted.count_request(key(1))
    counted.count_request(key(2))
    counted.add(key(1))
    counted.add(key(2))
    counted.count_request(key(1))
    assert counted.pop_lowest(2.0, lambda _: True) == key(2)


def test_a_removed_unit_is_not_evicted_again() -> None:
    counted = UsageCounts()
    for number in (1, 2):
        counted.count_request(key(number))
        counted.add(key(number))
    counted.remove(key(1))
    assert counted.pop_lowest(10.0, lambda _: True) == key(2)


def test_scores_do_not_overflow(monkeypatch) -> None:
    monkeypatch.setattr(eviction, "MAX_REQUEST_WEIGHT", 4.0)
    counted = UsageCounts()
    counted.count_request(key(1))
    counted.add(key(1))
    for _ in range(10_000):
        counted.count_request(ANY)
    assert counted.count_request(ANY) < 10_000
    counted.count_request(key(2))
    assert counted.pop_lowest(counted.count_request(key(2)), lambda _: True) == key(1)


def test_a_returned_score_is_rescaled_like_the_stored_ones(monkeypatch) -> None:
    """Also right after a rescale: the returned score stays below the highest stored one."""
    monkeypatch.setattr(eviction, "MAX_REQUEST_WEIGHT", 4.0)
    counted = UsageCounts()
    scores = []
    for _ in range(500):
        counted.count_request(ANY)
        scores.append(counted.count_request(key(1)) / max(counted._scores.values()))
    assert max(scores) < 1


@pytest.mark.parametrize("room", [3, 12, 20])
def test_units_requested_in_turn_are_not_exchanged(room: int) -> None:
    """The first `room` units hit in each round, the best possible without knowing the future."""
    assert hits(list(range(24)) * 50, room) == 49 * room


def test_hits_come_close_to_the_best_fixed_choice_of_units() -> None:
    """The request probabilities do not change, so a fixed choice is optimal."""
    rng = random.Random(0)
    numbers = [*range(40)]
    asks = rng.choices(numbers, weights=[1 / (1 + n) for n in numbers], k=20_000)
    rng.shuffle(numbers)
    asks = [numbers[n] for n in asks]  # so that the first units are not the most frequent ones
    best = sum(count for _, count in Counter(asks).most_common(10))
    assert 0.95 * best < hits(asks, 10) <= best


def test_kept_units_are_replaced_when_the_requests_change() -> None:
    rng = random.Random(0)
    early = rng.choices(range(10), k=4_000)
    late = rng.choices(range(10, 20), k=4_000)
    assert hits(early + late, 10) > 0.9 * 8_000
