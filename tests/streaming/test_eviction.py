"""What is asked for most stays: worked out by hand, and by counting."""

import random
from collections import Counter

import pytest

from qwen3lab.streaming import eviction
from qwen3lab.streaming.eviction import UsageCounts

ANY = (0, 99)


def key(number: int) -> tuple[int, int]:
    return (0, number)


def hits(asks: list[int], room: int) -> int:
    """How many asks find their unit kept, by the rule that the shelf follows."""
    counted, kept, found = UsageCounts(), set(), 0
    for number in asks:
        score = counted.ask(key(number))
        if number in kept:
            found += 1
        elif len(kept) < room:
            kept.add(number)
            counted.keep(key(number))
        elif (other := counted.replaceable(score, lambda _: True)) is not None:
            kept.remove(other[1])
            kept.add(number)
            counted.keep(key(number))
    return found


def test_a_score_is_a_sum_of_asks_each_worth_more_than_the_one_before() -> None:
    counted = UsageCounts()
    grows = 2 ** (1 / eviction.HALF_LIFE)
    assert counted.ask(key(1)) == 0
    assert counted.ask(ANY) == 0
    assert counted.ask(key(1)) == pytest.approx(grows)
    assert counted.ask(key(1)) == pytest.approx(grows + grows**3)


def test_half_a_life_later_an_ask_is_worth_twice_as_much() -> None:
    counted = UsageCounts()
    for number in (7, 8, 9):
        counted.keep(key(number))
    counted.ask(key(1))
    for _ in range(3 * eviction.HALF_LIFE - 1):
        counted.ask(ANY)
    counted.ask(key(2))
    assert counted.ask(key(2)) == pytest.approx(2 * counted.ask(key(1)))


def test_only_a_unit_of_a_lower_score_gives_way_and_the_lowest_first() -> None:
    counted = UsageCounts()
    for number in (1, 1, 1, 2, 2, 3):
        counted.ask(key(number))
    for number in (1, 2, 3):
        counted.keep(key(number))
    assert counted.replaceable(0.5, lambda _: True) is None
    assert counted.replaceable(10.0, lambda unit: unit != key(3)) == key(2)
    assert counted.replaceable(10.0, lambda _: True) == key(3)
    assert counted.replaceable(10.0, lambda _: True) == key(1)
    assert counted.replaceable(10.0, lambda _: True) is None


def test_a_kept_unit_is_judged_by_what_it_has_now() -> None:
    counted = UsageCounts()
    counted.ask(key(1))
    counted.ask(key(2))
    counted.keep(key(1))
    counted.keep(key(2))
    counted.ask(key(1))
    assert counted.replaceable(2.0, lambda _: True) == key(2)


def test_a_forgotten_unit_is_not_offered() -> None:
    counted = UsageCounts()
    for number in (1, 2):
        counted.ask(key(number))
        counted.keep(key(number))
    counted.forget(key(1))
    assert counted.replaceable(10.0, lambda _: True) == key(2)


def test_scores_do_not_overflow(monkeypatch) -> None:
    monkeypatch.setattr(eviction, "LARGEST", 4.0)
    counted = UsageCounts()
    counted.ask(key(1))
    counted.keep(key(1))
    for _ in range(10_000):
        counted.ask(ANY)
    assert counted.ask(ANY) < 10_000
    counted.ask(key(2))
    assert counted.replaceable(counted.ask(key(2)), lambda _: True) == key(1)


def test_a_score_is_in_the_measure_of_those_that_it_is_compared_with(monkeypatch) -> None:
    """Also where that has just been changed: two asks of one make a score of two at most."""
    monkeypatch.setattr(eviction, "LARGEST", 4.0)
    counted = UsageCounts()
    scores = []
    for _ in range(500):
        counted.ask(ANY)
        scores.append(counted.ask(key(1)) / max(counted._scores.values()))
    assert max(scores) < 1


@pytest.mark.parametrize("room", [3, 12, 20])
def test_units_asked_for_in_turn_stay_where_they_are(room: int) -> None:
    """The first `room` are found again in each round, which no rule betters but by foresight."""
    assert hits(list(range(24)) * 50, room) == 49 * room


def test_what_is_asked_for_most_is_found_most_often() -> None:
    """Beside the best choice of units that never changes, for asks that never change."""
    rng = random.Random(0)
    numbers = [*range(40)]
    asks = rng.choices(numbers, weights=[1 / (1 + n) for n in numbers], k=20_000)
    rng.shuffle(numbers)
    asks = [numbers[n] for n in asks]  # so that the first ones met are not the most frequent
    best = sum(count for _, count in Counter(asks).most_common(10))
    assert 0.95 * best < hits(asks, 10) <= best


def test_other_units_take_over_when_others_are_asked_for() -> None:
    rng = random.Random(0)
    early = rng.choices(range(10), k=4_000)
    late = rng.choices(range(10, 20), k=4_000)
    assert hits(early + late, 10) > 0.9 * 8_000
