"""The weight cache, on a checkpoint reader that lists what is read."""

import signal

import pytest
import torch

from qwen3lab.checkpoints.safetensors_reader import CheckpointReader
from qwen3lab.checkpoints.tensor_names import StoredPart
from qwen3lab.streaming.weight_cache import WeightCache, WeightUnit

SIZE = 4
BYTES = 4 * SIZE


class Numbers(CheckpointReader):
    """A reader whose part named "7" consists of sevens."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def fill(self, pieces) -> None:
        for into, part in pieces:
            if part.name == "13":
                raise OSError("the disk is gone")
            into.fill_(float(part.name))
            self.read.append(int(part.name))


def unit(number: int, layer: int = 0) -> WeightUnit:
    return WeightUnit((layer, number), {"w": (SIZE,)}, {"w": [StoredPart(str(number))]})


def cache_of(n_kept: int) -> WeightCache:
    return WeightCache(Numbers(), capacity=n_kept * BYTES, device="cpu", dtype=torch.float32)


def ask(cache: WeightCache, *numbers: int) -> list[int]:
    """Stream units and check their tensors; returns the numbers read from the checkpoint."""
    cache.weights.read.clear()
    for number, tensors in zip(numbers, cache.stream(map(unit, numbers)), strict=True):
        assert tensors["w"].tolist() == [number] * SIZE
    return list(cache.weights.read)


def test_a_unit_requested_more_often_replaces_a_kept_one() -> None:
    cache = cache_of(2)
    assert ask(cache, 1, 2, 1, 2) == [1, 2]
    assert ask(cache, 3) == ask(cache, 3) == ask(cache, 3) == [3]
    assert ask(cache, 3) == []  # Requested twice before, and more recently, it is kept now.
    assert ask(cache, 2) == [] and ask(cache, 1) == [1]  # It replaced unit 1.
    assert cache.kept_bytes == 2 * BYTES


def test_units_requested_in_turn_are_not_exchanged() -> None:
    cache = cache_of(3)
    ask(cache, *range(8))
    for _ in range(5):
        assert ask(cache, *range(8)) == [3, 4, 5, 6, 7]


def test_replacing_units_reuses_buffers() -> None:
    cache = cache_of(2)
    for _ in range(20):
        ask(cache, *torch.randint(0, 6, (9,)).tolist())
    held = {id(f.result()["w"]) for f in cache._kept.values()}
    free = {id(t["w"]) for unused in cache._free_buffers.values() for t in unused}
    assert len(held) == 2 and len(free) <= 2 and not held & free


def test_a_unit_in_use_is_not_evicted() -> None:
    cache = cache_of(1)
    ask(cache, 1)
    in_use = cache.stream([unit(1), unit(9)])
    tensors = next(in_use)
    ask(cache, 2, 2, 2, 2, 3, 4)
    assert tensors["w"].tolist() == [1] * SIZE
    in_use.close()
    ask(cache, 2)
    assert ask(cache, 2) == []


def test_reserved_capacity_is_not_used_for_other_units() -> None:
    cache = cache_of(3)
    cache.reserve([unit(8), unit(9)])
    ask(cache, 1, 2, 3)
    assert ask(cache, 1, 2, 3) == [2, 3]
    ask(cache, 8, 9)
    assert ask(cache, 8, 9) == []


def test_other_units_are_not_kept_if_the_reserved_ones_do_not_fit() -> None:
    cache = cache_of(2)
    cache.reserve([unit(7), unit(8), unit(9)])
    assert ask(cache, 1, 7, 8, 9) and ask(cache, 1, 7, 8, 9) == [1, 9]


def test_a_unit_that_cannot_be_read_is_dropped_and_its_bytes_are_free_again() -> None:
    cache = cache_of(1)
    with pytest.raises(OSError, match="disk is gone"):
        ask(cache, 13)
    assert cache.kept_bytes == 0
    ask(cache, 5)
    assert ask(cache, 5) == []


def test_read_and_used_bytes_are_counted_separately() -> None:
    cache = cache_of(1)
    ask(cache, 1, 2)
    ask(cache, 1, 2)
    assert (cache.bytes_read, cache.bytes_used) == (3 * BYTES, 4 * BYTES)


@pytest.mark.parametrize("step", ["_keep", "_evict_for", "_allocate", "_bytes"])
def test_an_interrupt_between_two_bookings_leaves_a_consistent_cache(monkeypatch, step) -> None:
    cache = cache_of(2)
    ask(cache, 1, 2, 1, 2)
    original = getattr(cache, step)

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGINT)
        return original(*arguments)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(cache, step, interrupted)
            ask(cache, 3, 4, 3, 4, 3, 4)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not any(cache._in_use.values())
    kept = {unit: future.result()["w"].tolist() for unit, future in cache._kept.items()}
    assert kept == {(0, number): [number] * SIZE for _, number in kept}
    assert len(kept) * BYTES == cache.kept_bytes
    assert {key for usage in cache._usage.values() for _, key in usage._kept} == set(kept)
    ask(cache, 1, 2, 3, 4, 1, 2, 3, 4)
