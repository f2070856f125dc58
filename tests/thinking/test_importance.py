import math

import pytest

from qwen3lab import Sampling, tiny
from qwen3lab.thinking import importance, importance_cost, pieces
from qwen3lab.thinking.importance import _ContinuationSampler, distance, divergence

GREEDY = Sampling.greedy()


@pytest.fixture(scope="module")
def chat(tiny_lab):
    (problem,) = tiny.problems("arithmetic", n=1, steps=6, seed=2)
    return tiny_lab.chat(problem.question, sampling=GREEDY)


def test_divergence_equals_a_value_computed_by_hand():
    # With 0.5 added to each count, the distributions are (2.5, 0.5) / 3 and (0.5, 2.5) / 3.
    by_hand = (2.5 - 0.5) / 3 * math.log(5)
    assert divergence(["a", "a"], ["b", "b"]) == pytest.approx(by_hand)
    assert divergence(["a", "b"], ["b", "a"]) == 0
    assert math.isnan(divergence([], ["a"])) and math.isnan(divergence(["a"], []))


def test_distance_equals_values_computed_by_hand():
    assert distance(["a", "a", "b", "b"], ["a", "c", "c", "c"]) == 0.75
    assert distance(["a"], ["a", "a"]) == 0
    assert distance(["a"], ["b"]) == 1
    assert math.isnan(distance([], ["a"]))


def test_leaving_a_part_out_gives_the_answer_to_the_remaining_text(tiny_lab, chat):
    found = importance(tiny_lab, chat, every=3, samples=2, sampling=GREEDY, progress=False)
    ids = [*chat.prompt_ids, *chat.token_ids]
    answer = chat.spans["answer"][0]
    for part, without in zip(found.parts, found.without, strict=True):
        rest = ids[: part.start] + ids[part.end : answer]
        alone = tiny_lab.generate(rest, sampling=GREEDY).text.strip()
        assert without == {alone: 1.0}
    assert all(kept == {chat.answer: 1.0} for kept in found.kept)
    changed = [without != kept for kept, without in zip(found.kept, found.without, strict=True)]
    assert list(found.distance) == [float(is_changed) for is_changed in changed]
    assert any(changed) and not all(changed)
    assert found.differed == (2,) * len(found.parts)


def test_resampled_continuations_equal_those_of_generate_with_the_same_seeds(tiny_lab, chat):
    hot = Sampling(temperature=2.5)
    found = importance(
        tiny_lab, chat, every=9, how="resample", samples=4, sampling=hot, seed=3, progress=False
    )
    ids = [*chat.prompt_ids, *chat.token_ids]
    longest = 2 * len(chat.token_ids)
    for part, differed in zip(found.parts, found.differed, strict=True):
        texts = [
            tiny_lab.generate(
                ids[: part.start], sampling=hot, seed=3 + sample, max_new_tokens=longest
            ).text
            for sample in range(4)
        ]
        begins = [text.startswith(part.text) for text in texts]
        assert differed == begins.count(False)
    assert sum(found.differed) > 0


def test_where_no_continuation_differs_and_all_answers_agree_a_part_changes_nothing(tiny_lab, chat):
    found = importance(
        tiny_lab, chat, every=9, how="resample", samples=2, sampling=GREEDY, progress=False
    )
    assert found.differed == (0,) * len(found.parts)
    assert found.divergence == found.distance == (0.0,) * len(found.parts)
    table = found.to_pandas()
    assert list(table.favourite_without) == [""] * len(found.parts)


@pytest.mark.parametrize("how", ["leave out", "resample"])
def test_the_cost_equals_the_number_of_tokens_that_are_processed(tiny_lab, chat, how, monkeypatch):
    cost = importance_cost(chat, every=9, how=how, samples=4)
    n = len(pieces(chat, 9))
    assert (cost.parts, cost.continuations) == (n, 4 * (n + 1))
    read = []
    forward = tiny_lab.model.forward

    def counting_forward(ids, **options):
        read.append(ids.shape[1] if ids.shape[0] == 1 else 0)
        return forward(ids, **options)

    monkeypatch.setattr(tiny_lab.model, "forward", counting_forward)
    importance(tiny_lab, chat, every=9, how=how, samples=4, progress=False)
    # The last token of each prefix is processed in the first decoding step.
    assert cost.read_tokens == sum(read) + (n + 1)
    assert f"{n} parts, {4 * (n + 1)} continuations" in str(cost)


def test_invalid_arguments_are_errors(tiny_lab, chat):
    with pytest.raises(ValueError, match="samples is 0"):
        importance(tiny_lab, chat, samples=0, progress=False)
    with pytest.raises(ValueError, match="how is 'guess'"):
        importance(tiny_lab, chat, how="guess", progress=False)


@pytest.mark.parametrize(
    ("thought", "part", "every", "other"),
    [
        ("12\n3", "1\n", "sentence", True),
        ("1\n3", "1\n", "sentence", False),
        ("1\n\n3", "1\n", "sentence", False),
        ("②③", "②", "sentence", True),
        ("②③", "②", 1, False),
        ("√2", "√", 3, False),
        ("√2", "√2", "sentence", False),
    ],
)
def test_parts_are_compared_as_a_whole_without_whitespace(tiny_lab, thought, part, every, other):
    """A longer first line is another part; a character of several tokens counts as one."""
    sampler = _ContinuationSampler(tiny_lab, GREEDY, 1, 0, 1)
    thought, part = (
        tiny_lab.tokenizer.encode(t, add_special_tokens=False) for t in (thought, part)
    )
    assert sampler.begins_otherwise(thought, part, every) == other
