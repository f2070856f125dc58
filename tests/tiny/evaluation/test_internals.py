"""Head scores and surplus, compared with values computed entry by entry."""

import random

import pytest
import torch

from qwen3lab.tiny.evaluation.internals import diagnostic_head_scores, read, surplus
from qwen3lab.tiny.world import lists

WORDS = 5


def by_hand(lab, distance):
    """The mean attention from the second copy of a sequence to the token `distance` before."""
    rng, means = random.Random(3), []
    for _ in range(10):
        text = "".join(f" {word}" for word in rng.sample(lists.pool("en"), WORDS)) * 2
        recording = lab.record(text)
        assert len(recording.tokens) == 2 * WORDS
        positions = range(WORDS, 2 * WORDS)
        if distance == 1:
            positions = range(1, 2 * WORDS)
        patterns = torch.stack([recording.attention.pattern(layer) for layer in range(6)])
        rows = [patterns[:, :, position, position - distance] for position in positions]
        means.append(torch.stack(rows).mean(dim=0))
    return torch.stack(means).mean(dim=0)


@pytest.mark.parametrize(
    ("kind", "distance"),
    [("previous token", 1), ("duplicate token", WORDS), ("induction", WORDS - 1)],
)
def test_a_head_score_is_the_mean_attention_at_its_distance(tiny_lab, kind, distance):
    scores = diagnostic_head_scores(tiny_lab, seed=3, period=WORDS)[kind]
    torch.testing.assert_close(scores, by_hand(tiny_lab, distance), rtol=1e-4, atol=1e-5)


def test_surplus_is_the_mean_loss_of_predictable_tokens(tiny_lab):
    texts = read(tiny_lab, n=2, seed=5, families=["lists"])
    losses = []
    for text in texts:
        probabilities = text.recording.logits.double().softmax(dim=-1)
        for position, (token, weight) in enumerate(
            zip(text.document.token_ids, text.document.weights, strict=True)
        ):
            if position and weight == 1:
                losses.append(-probabilities[position - 1, token].log())
    assert len(losses) > 4
    assert surplus(texts) == {"lists": pytest.approx(float(torch.stack(losses).mean()), rel=1e-4)}
