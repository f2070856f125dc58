"""Head scores and surplus, compared with values computed entry by entry."""

import random

import pytest
import torch

from qwen3lab.tiny.evaluation.internals import (
    Sink,
    diagnostic_head_scores,
    read,
    sink,
    sink_scores,
    surplus,
)
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


def test_the_sink_is_the_mean_attention_to_the_first_token_of_chats_with_thinking(tiny_lab):
    texts = read(tiny_lab, n=2, seed=5, families=["lists", "arithmetic", "swaps"])
    by_text = []
    for text in texts:
        if text.family != "lists":
            later = range(1, len(text.recording.tokens))
            patterns = torch.stack([text.recording.attention.pattern(k) for k in range(6)])
            rows = [patterns[:, :, position, 0] for position in later]
            by_text.append(torch.stack(rows).mean(dim=0))
    assert len(by_text) == 4
    expected = torch.stack(by_text).mean(dim=0)
    torch.testing.assert_close(sink_scores(texts), expected, rtol=1e-4, atol=1e-5)
    found = sink(texts)
    assert found.texts == 4
    assert found.by_head == [[pytest.approx(score) for score in row] for row in expected.tolist()]


def test_heads_above_a_threshold_are_counted():
    found = Sink([[0.1, 0.35, 0.3], [0.31, 0.62, 0.51]], 1)
    assert (found.above(0.3), found.above(0.5), found.above(0.9)) == (4, 2, 0)
    assert (found.best.layer, found.best.head, found.best.score) == (1, 1, pytest.approx(0.62))


def test_texts_without_chats_have_no_sink(tiny_lab):
    texts = read(tiny_lab, n=1, seed=5, families=["lists"])
    with pytest.raises(ValueError, match="no chats with thinking"):
        sink_scores(texts)
