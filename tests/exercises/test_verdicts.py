"""Exercise checks accept correct answers and nothing else."""

import re
from math import nan

import pytest
import torch

from qwen3lab import exercises
from qwen3lab.analysis.attention.profile import head_profile
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.exercises import NO_ANSWER
from qwen3lab.experiments.effects import Text, group_losses
from qwen3lab.interventions import rerouting
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.recording import Recording
from qwen3lab.thinking import Answer, Attempt, Convergence, Importance, Piece, Sweep
from qwen3lab.thinking.swept import SweepPlan
from tests.analysis.test_map_windows import recorded as long_recording
from tests.reference import small_config


def recorded(rows):
    """A recording in which both MoE layers chose these experts, with equal weights."""
    kept = {}
    for layer in (1, 2):
        name = f"blocks.{layer}.mlp.hook_"
        kept[f"{name}expert_indices"] = torch.tensor(rows)
        kept[f"{name}expert_weights"] = torch.full((len(rows), 2), 0.5)
        kept[f"{name}router_logits"] = torch.zeros(len(rows), 8)
    return Recording(torch.arange(len(rows)), ["t"] * len(rows), small_config(), "planted", kept)


def test_the_busiest_expert_is_the_one_chosen_by_most_tokens():
    run = recorded([[3, 1], [3, 2], [1, 3]])
    assert exercises.busiest_expert(run, 1, 3).solved is True
    wrong = exercises.busiest_expert(run, 1, 1)
    assert wrong.solved is False and "Expert 1 is chosen by 2 of 3 tokens" in wrong.reason
    assert exercises.busiest_expert(run, 1, 9).solved is False
    assert exercises.busiest_expert(run, 1, None).solved is None


def test_the_specialist_is_the_expert_with_the_highest_npmi():
    corpus = RoutingCorpus(small_config())
    # All tokens choose expert 0; only tokens of group a choose expert 5.
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
        assert f"The loss of a rises by {a:.2f} nats per token" in verdict.reason
        solved += bool(verdict.solved)
    assert 0 < solved < len(tried)


@pytest.mark.parametrize("solved", [True, False, None])
def test_a_verdict_is_shown_with_escaped_html(solved):
    verdict = exercises.Verdict(solved, "<b>x</b>")
    assert "&lt;b&gt;x&lt;/b&gt;" in verdict._repr_html_()
    assert "<b>x</b>" in repr(verdict)
    assert exercises.busiest_expert(recorded([[0, 1]]), 1, None).reason == NO_ANSWER


def answers(*texts):
    """A convergence with one answer at each of the points 0, 3, 6 and so on."""
    points = tuple(range(0, 3 * len(texts), 3))
    return Convergence(
        points, (None,) * len(points), tuple((t,) for t in texts), None, texts[-1], points[-1]
    )


def test_only_the_point_where_the_answer_settles_is_accepted():
    found = answers("a", "b", "a", "a")
    assert exercises.settles(found, 6).solved is True
    early, late = exercises.settles(found, 3), exercises.settles(found, 9)
    assert (early.solved, late.solved) == (False, False)
    assert "is 'b'; it settles later" in early.reason and "settles earlier" in late.reason
    assert "no answer after 5 tokens" in exercises.settles(found, 5).reason
    assert exercises.settles(found, None).solved is None


def test_the_crucial_part_is_the_one_that_changes_most_answers():
    parts = (Piece(0, 1, 1, "a"), Piece(1, 2, 2, "b"), Piece(2, 3, 3, "c"))
    found = Importance(
        "resample", parts, ({},) * 3, ({},) * 3, (0.0,) * 3, (0.2, 1.0, nan), (1,) * 3, 1
    )
    assert exercises.crucial_part(found, 1).solved is True
    assert exercises.crucial_part(found, 0).solved is False
    assert exercises.crucial_part(found, 2).solved is False
    assert "0 to 2" in exercises.crucial_part(found, 3).reason
    assert exercises.crucial_part(found, None).solved is None


def test_the_needed_budget_is_the_smallest_with_enough_correct_answers():
    def attempt(number, *right):
        given = tuple(Answer("x", 1, 1, 5, "budget", True) for _ in right)
        return Attempt(number, 0, "6", 4, "", given, right)

    plan = SweepPlan("m", "float32", small_config(), "", 2, (0, 5, 9), 1, 0, None, 9, False)
    sweep = Sweep(plan, (attempt(0, False, True, True), attempt(1, True, True, True)))
    assert exercises.budget_needed(sweep, "6", 5).solved is True
    assert "look for at least 90%" in exercises.budget_needed(sweep, "6", 0).reason
    assert "a smaller budget is enough" in exercises.budget_needed(sweep, "6", 9).reason
    assert "7 is not a budget of the sweep" in exercises.budget_needed(sweep, "6", 7).reason
    assert exercises.budget_needed(sweep, "6", None).solved is None


@pytest.mark.parametrize("answer", ["3", 3.0, [3], (3, 1), torch.tensor(3.0), {3: 1}])
def test_an_answer_that_is_not_an_integer_is_refused_with_an_example(answer):
    corpus = RoutingCorpus(small_config())
    corpus.add(recorded([[0, 5], [0, 5]]), "a")
    told = [
        exercises.busiest_expert(recorded([[3, 1]]), 1, answer),
        exercises.specialist(corpus, "a", 2, answer),
        exercises.settles(answers("a", "b"), answer),
        exercises.sink_heads(torch.ones(1, 2, 3), answer),
    ]
    assert all(verdict.solved is False for verdict in told)
    assert all("give one, as in answer=3." in verdict.reason for verdict in told)


@pytest.mark.parametrize("answer", [3, (3,), "3, 1", "31", (1, 0, 0), (1.0, 0), torch.tensor(3)])
def test_an_answer_that_is_not_a_head_is_refused_with_an_example(answer):
    told = [
        exercises.best_head(head_profile(long_recording()), "previous", answer, least=0.01),
    ]
    assert all(verdict.solved is False for verdict in told)
    assert all("as in answer=(3, 1)." in verdict.reason for verdict in told)


def test_torch_integers_and_lists_are_accepted_as_answers():
    assert exercises.busiest_expert(recorded([[3, 1], [3, 2]]), 1, torch.tensor(3)).solved is True
    found = head_profile(long_recording())
    best = divmod(int(found.previous.argmax()), 4)
    least = float(found.previous.max())
    assert exercises.best_head(found, "previous", list(best), least=least).solved is True


@pytest.mark.parametrize(
    ("answer", "said"),
    [([3, 5], "as in answer=rerouting.off"), (rerouting.off(99, layers=1), "99")],
)
def test_an_answer_that_is_not_a_valid_intervention_is_refused(tiny_tokenizer, answer, said):
    lab = Lab(Qwen3(small_config(d_vocab=len(tiny_tokenizer))), tiny_tokenizer)
    texts = [Text("a", [40, 41, 42]), Text("b", [60, 61, 62])]
    verdict = exercises.hurts_most(lab, texts, "a", answer)
    assert verdict.solved is False and said in verdict.reason


def luminance(colour):
    """Relative luminance, as WCAG 2.2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("page", "ink"), [((1, 1, 1), (0.13,) * 3), ((0.067,) * 3, (1, 1, 1))])
@pytest.mark.parametrize("solved", [True, False, None])
def test_a_verdict_has_enough_contrast_on_light_and_dark_pages(solved, page, ink):
    shown = exercises.Verdict(solved, "x")._repr_html_()
    found = re.search(r"color-mix\(in srgb, #(\w{6}) (\d+)%, currentcolor\)", shown)
    hue, share = bytes.fromhex(found[1]), int(found[2]) / 100
    mixed = [share * part / 255 + (1 - share) * own for part, own in zip(hue, ink, strict=True)]
    dark, light = sorted([luminance(mixed), luminance(page)])
    assert (light + 0.05) / (dark + 0.05) >= 4.5
