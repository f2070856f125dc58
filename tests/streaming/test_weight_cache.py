"""A shelf over weights that write down what is read of them."""

import pytest
import torch

from qwen3lab.checkpoints.safetensors_reader import CheckpointReader
from qwen3lab.checkpoints.tensor_names import StoredPart
from qwen3lab.streaming.weight_cache import Unit, WeightCache

SIZE = 4
BYTES = 4 * SIZE


class Numbers(CheckpointReader):
    """CheckpointReader of which the part named "7" is nothing but sevens."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def fill(self, pieces) -> None:
        for into, part in pieces:
            if part.name == "13":
                raise OSError("the disk is gone")
            into.fill_(float(part.name))
            self.read.append(int(part.name))


def unit(number: int, layer: int = 0) -> Unit:
    return Unit((layer, number), {"w": (SIZE,)}, {"w": [StoredPart(str(number))]})


def shelf(n_kept: int) -> WeightCache:
    return WeightCache(Numbers(), room=n_kept * BYTES, device="cpu", dtype=torch.float32)


def ask(shelf: WeightCache, *numbers: int) -> list[int]:
    """Stream units; checks what comes, and gives what had to be read."""
    shelf.weights.read.clear()
    for number, tensors in zip(numbers, shelf.stream(map(unit, numbers)), strict=True):
        assert tensors["w"].tolist() == [number] * SIZE
    return list(shelf.weights.read)


def test_what_is_asked_for_more_often_takes_the_place_of_what_is_not() -> None:
    some = shelf(2)
    assert ask(some, 1, 2, 1, 2) == [1, 2]
    assert ask(some, 3) == ask(some, 3) == ask(some, 3) == [3]
    assert ask(some, 3) == []  # Asked for twice before, and later, it has taken a place:
    assert ask(some, 2) == [] and ask(some, 1) == [1]  # that of the one asked for first.
    assert some.kept_bytes == 2 * BYTES


def test_units_asked_for_in_turn_are_not_exchanged() -> None:
    some = shelf(3)
    ask(some, *range(8))
    for _ in range(5):
        assert ask(some, *range(8)) == [3, 4, 5, 6, 7]


def test_memory_is_exchanged_and_none_is_added() -> None:
    some = shelf(2)
    for _ in range(20):
        ask(some, *torch.randint(0, 6, (9,)).tolist())
    held = {id(f.result()["w"]) for f in some._kept.values()}
    free = {id(t["w"]) for unused in some._free.values() for t in unused}
    assert len(held) == 2 and len(free) <= 2 and not held & free


def test_a_unit_in_use_does_not_give_way() -> None:
    some = shelf(1)
    ask(some, 1)
    in_use = some.stream([unit(1), unit(9)])
    tensors = next(in_use)
    ask(some, 2, 2, 2, 2, 3, 4)
    assert tensors["w"].tolist() == [1] * SIZE
    in_use.close()
    ask(some, 2)
    assert ask(some, 2) == []


def test_room_that_is_spoken_for_is_left() -> None:
    some = shelf(3)
    some.reserve([unit(8), unit(9)])
    ask(some, 1, 2, 3)
    assert ask(some, 1, 2, 3) == [2, 3]
    ask(some, 8, 9)
    assert ask(some, 8, 9) == []


def test_where_not_even_that_fits_nothing_else_is_kept() -> None:
    some = shelf(2)
    some.reserve([unit(7), unit(8), unit(9)])
    assert ask(some, 1, 7, 8, 9) and ask(some, 1, 7, 8, 9) == [1, 9]


def test_a_unit_that_failed_is_not_kept_and_its_room_is_given_back() -> None:
    some = shelf(1)
    with pytest.raises(OSError, match="disk is gone"):
        ask(some, 13)
    assert some.kept_bytes == 0
    ask(some, 5)
    assert ask(some, 5) == []


def test_what_is_read_is_counted_beside_what_is_used() -> None:
    some = shelf(1)
    ask(some, 1, 2)
    ask(some, 1, 2)
    assert (some.bytes_read, some.bytes_used) == (3 * BYTES, 4 * BYTES)
