import math

import pytest
import torch

from qwen3lab.analysis.specialisation import label_information, mutual_information


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[5.0, 0, 0], [0, 7, 0]], -(5 / 12 * math.log(5 / 12) + 7 / 12 * math.log(7 / 12))),
        ([[1.0, 1], [1, 1]], 0.0),
        ([[3.0, 6], [2, 4]], 0.0),
        # Worked out by hand: 0.4 log(0.4 / 0.25) twice and 0.1 log(0.1 / 0.25) twice.
        ([[4.0, 1], [1, 4]], 0.8 * math.log(1.6) + 0.2 * math.log(0.4)),
        ([[4.0]], 0.0),
    ],
)
def test_information_in_nats_is_what_the_definition_gives(counts, expected):
    assert mutual_information(torch.tensor(counts)) == pytest.approx(expected, abs=1e-12)


def test_planted_specialisation_is_above_every_shuffle():
    labels = torch.arange(40) % 4
    counts = torch.full((40, 8), 10.0)
    counts[torch.arange(40), labels] += 30
    found = label_information(counts, labels)
    assert found.above_chance
    assert found.value > 3 * found.shuffled[-1]
    assert len(found.shuffled) == 200


def test_experts_that_say_nothing_are_not_above_chance():
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(5, 15, (60, 8), generator=generator).float()
    found = label_information(counts, torch.arange(60) % 3)
    assert not found.above_chance


def test_a_seed_repeats_the_shuffles():
    counts, labels = torch.rand(10, 3), torch.arange(10) % 2
    assert label_information(counts, labels) == label_information(counts, labels)
    assert label_information(counts, labels, seed=1) != label_information(counts, labels)


def test_what_cannot_be_counted_is_refused():
    with pytest.raises(ValueError, match="nothing was counted"):
        mutual_information(torch.zeros(2, 3))
