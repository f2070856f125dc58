import pytest
import torch

from qwen3lab import Sampling, tiny
from qwen3lab.analysis.thinking_text import (
    KINDS,
    answer_looks,
    forking_tokens,
    part_loads,
    sentence_kind,
)
from qwen3lab.thinking import pieces
from tests.thinking.test_pieces import chat


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Wait, that is wrong.", "doubting"),
        ("Hmm, 3 + 4 = 8?", "doubting"),
        ("等等，不对。", "doubting"),
        ("Let me double-check: 3 + 4 = 7.", "checking"),
        ("我来验证一下。", "checking"),
        ("Therefore x = 3.", "concluding"),
        ("所以答案是7。", "concluding"),
        ("Okay, so I need to find x.", "restating"),
        ("题目要求求和。", "restating"),
        ("3 * 4", "computing"),
        ("7+2⑨", "computing"),
        ("x = y", "computing"),
        ("7", "computing"),
        ("  ", "other"),
        ("Spiders have eight legs.", "other"),
        ("A waiter brings 3 plates.", "other"),
        ("", "other"),
    ],
)
def test_the_kind_of_a_sentence_follows_from_its_keywords(text, kind):
    assert sentence_kind(text) == kind
    assert kind in KINDS


def test_forking_tokens_are_the_fifth_of_the_thinking_with_the_highest_entropy():
    made = chat([f" {n}" for n in range(10)])
    made.entropy[:] = torch.tensor([9.0, 9, *[0.1, 0.9, 0.3, 0, 0.8, 0, 0, 0.2, 0, 0.1], 9, 9])
    # Position 5 is the thinking's first token.
    assert forking_tokens(made) == [5 + 1, 5 + 4]
    assert forking_tokens(made, share=0.4) == [5 + n for n in (1, 2, 4, 7)]


def test_inserted_tokens_and_tokens_of_zero_entropy_are_not_forking_tokens():
    made = chat(["a", "b", "c", "d"], forced=2)
    made.entropy[:] = torch.tensor([0.0, 0, 0.5, 0, 7, 7, 7, 0])
    assert forking_tokens(made, share=1.0) == [5]
    with pytest.raises(ValueError, match="share is 0"):
        forking_tokens(made, share=0.0)


@pytest.fixture(scope="module")
def run(tiny_lab):
    (problem,) = tiny.problems("swaps", n=1, steps=3, seed=5)
    return tiny_lab.chat(problem.question, sampling=Sampling.greedy(), record=True)


def test_the_attention_of_the_answer_over_the_parts_sums_to_one(run):
    recording, parts = run.recording, pieces(run)
    found = answer_looks(recording, parts)
    assert found.names == ("question", *(part.text for part in parts), "rest")
    torch.testing.assert_close(found.mass.sum(dim=-1), torch.ones(found.mass.shape[:2]))
    start, end = run.spans["answer"]
    part = parts[1]
    for layer, head in ((0, 0), (5, 3)):
        rows = recording.attention[layer, head][start - 1 : end - 1]
        by_hand = rows[:, part.start : part.end].sum(dim=1).mean()
        torch.testing.assert_close(found.mass[layer, head, 2], by_hand)


def test_the_load_of_a_part_counts_its_experts(run):
    recording = run.recording
    found = part_loads(recording, "thinking")
    first, end = run.spans["thinking"]
    counts = torch.bincount(recording.routing.experts[2, first:end].flatten(), minlength=16)
    torch.testing.assert_close(found[2], counts / counts.sum())


def test_parts_that_a_recording_does_not_have_are_refused(tiny_lab, run):
    quick = tiny_lab.chat("2+3=?", thinking=False, record=True, sampling=Sampling.greedy())
    with pytest.raises(ValueError, match="the recording has no thinking"):
        part_loads(quick.recording, "thinking")
    plain = tiny_lab.record("2+3=?")
    with pytest.raises(ValueError, match="the recording has no answer"):
        answer_looks(plain, pieces(run))
