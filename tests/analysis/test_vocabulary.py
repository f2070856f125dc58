import pytest
import torch

from qwen3lab.analysis.vocabulary import Served, served_vocabulary
from qwen3lab.recording.recording import Recording
from tests.reference import NO_EXPERTS, small_config


def recorded(tokens, experts):
    """A recording with these experts in layer 2 and the last two experts in layer 1."""
    config = small_config()
    chosen = {1: [[6, 7]] * len(tokens), 2: experts}
    kept = {
        f"blocks.{layer}.mlp.hook_expert_indices": torch.tensor(rows)
        for layer, rows in chosen.items()
    }
    return Recording(torch.arange(len(tokens)), tokens, config, "planted", kept)


def test_tokens_have_the_counts_of_routed_and_of_all_occurrences():
    texts = [
        recorded(["a", "b", "a"], [[3, 0], [1, 3], [3, 1]]),
        recorded(["b", "c", "a", "c"], [[1, 2], [3, 2], [3, 2], [3, -1]]),
    ]
    assert served_vocabulary(texts, 2, 3) == [
        Served("a", 3, 3),
        Served("c", 2, 2),
        Served("b", 1, 2),
    ]
    assert served_vocabulary(texts, 2, 3, at_least=3) == [Served("a", 3, 3)]
    assert served_vocabulary(texts, 2, 5) == []
    assert [one.served for one in served_vocabulary(texts, 1, 7)] == [3, 2, 2]


def test_layers_and_experts_that_do_not_exist_are_named():
    texts = [recorded(["a"], [[0, 1]])]
    with pytest.raises(ValueError, match=r"layer 0 has no experts: .* are 1, 2"):
        served_vocabulary(texts, 0, 3)
    with pytest.raises(ValueError, match="expert 8 does not exist"):
        served_vocabulary(texts, 2, 8)
    dense = Recording(torch.arange(1), ["a"], small_config(**NO_EXPERTS), "dense", {})
    with pytest.raises(ValueError, match="none, because this model is dense"):
        served_vocabulary([dense], 0, 0)
