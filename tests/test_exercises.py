"""Exercises say right to what is right, and nothing else."""

import pytest
import torch

from qwen3lab import exercises, rerouting
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.analysis.knockout import Text, group_losses
from qwen3lab.exercises import OPEN
from qwen3lab.lab import Lab
from qwen3lab.model import Qwen3
from qwen3lab.recording import Recording
from tests.reference import small_config


def recorded(rows):
    """A recording whose layers with experts both chose these, of equal weight."""
    kept = {}
    for layer in (1, 2):
        name = f"blocks.{layer}.mlp.hook_"
        kept[f"{name}expert_indices"] = torch.tensor(rows)
        kept[f"{name}expert_weights"] = torch.full((len(rows), 2), 0.5)
        kept[f"{name}router_logits"] = torch.zeros(len(rows), 8)
    return Recording(torch.arange(len(rows)), ["t"] * len(rows), small_config(), "planted", kept)


def test_the_busiest_expert_is_the_one_with_most_tokens():
    run = recorded([[3, 1], [3, 2], [1, 3]])
    assert exercises.busiest_expert(run, 1, 3).solved is True
    wrong = exercises.busiest_expert(run, 1, 1)
    assert wrong.solved is False and "Expert 1 serves 2 tokens of 3" in wrong.reason
    assert exercises.busiest_expert(run, 1, 9).solved is False
    assert exercises.busiest_expert(run, 1, None).solved is None


def test_the_specialist_is_the_one_with_the_greatest_npmi():
    corpus = RoutingCorpus(small_config())
    # Expert 0 serves everybody, expert 5 group a alone.
    corpus.add(recorded([[0, 5], [0, 5]]), "a")
    corpus.add(recorded([[0, 6], [0, 7]]), "b")
    assert exercises.specialist(corpus, "a", 2, 5).solved is True
    assert exercises.specialist(corpus, "a", 2, 0).solved is False
    assert exercises.specialist(corpus, "a", 2, 6).solved is False
    assert exercises.specialist(corpus, "a", 2, 8).solved is False


def test_an_intervention_must_hurt_one_group_most(tiny_tokenizer):
    model = Qwen3(small_config(d_vocab=len(tiny_tokenizer)))
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    lab = Lab(model, tiny_tokenizer)
    texts = [Text("a", [40, 41, 42, 43]), Text("b", [60, 61, 62])]
    tried = [rerouting.off(e, layers=at) for at in (1, 2) for e in range(8)]
    base = group_losses(lab, texts)
    solved = 0
    for edits in tried:
        without = group_losses(lab, texts, edits=edits)
        a, b = (without[name] - base[name] for name in "ab")
        verdict = exercises.hurts_most(lab, texts, "a", edits)
        assert verdict.solved == (a >= 0.1 and a >= 2 * b)
        assert f"a loses {a:.2f} nats per token" in verdict.reason
        solved += bool(verdict.solved)
    assert 0 < solved < len(tried)


@pytest.mark.parametrize("solved", [True, False, None])
def test_a_verdict_shows_itself_and_escapes_names(solved):
    verdict = exercises.Verdict(solved, "<b>x</b>")
    assert "&lt;b&gt;x&lt;/b&gt;" in verdict._repr_html_()
    assert "<b>x</b>" in repr(verdict)
    assert exercises.busiest_expert(recorded([[0, 1]]), 1, None).reason == OPEN
