"""Strength curves: effect and damage as by hand, controls of the same norm, and interrupts."""

import pytest
import torch
import torch.nn.functional as F

from qwen3lab import metrics, steering
from qwen3lab.errors import HookError
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.reference import small_config

PROMPTS = [[5, 6, 7], [9, 8], [3, 4, 5, 6]]
NEUTRAL = [[30, 31, 32, 33, 34], [40, 41]]
STRENGTHS = (-2.0, 0.0, 1.0, 3.0)


@pytest.fixture(scope="module")
def lab(tiny_tokenizer):
    model = Qwen3(small_config(d_vocab=len(tiny_tokenizer)))
    model.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return Lab(model, tiny_tokenizer, "small")


@pytest.fixture(scope="module")
def vector(lab):
    return steering.from_token(lab, 20, layer=[1, 2])


def curve(lab, vector, metric, **options):
    options = {"neutral": NEUTRAL, "progress": False, "n_random": 2, **options}
    return steering.strength_curve(lab, vector, PROMPTS, metric, STRENGTHS, **options)


def loss(lab, edits):
    losses = []
    for text in NEUTRAL:
        logits = lab.record(text, edits=edits).logits
        losses.append(F.cross_entropy(logits[:-1], torch.tensor(text[1:]), reduction="none"))
    return float(torch.cat(losses).mean())


def mean_logit(lab, texts, edits):
    found = [float(lab.record(text, edits=edits).logits[-1, 20]) for text in texts]
    return sum(found) / len(found)


def test_effect_and_damage_are_those_of_runs_one_by_one(lab, vector):
    found = curve(lab, vector, metrics.logit(20))
    assert found.base == pytest.approx(mean_logit(lab, PROMPTS, None), abs=1e-4)
    assert found.base_loss == pytest.approx(loss(lab, None), abs=1e-4)
    for column, strength in enumerate(STRENGTHS):
        edits = strength * vector
        effect = mean_logit(lab, PROMPTS, edits) - found.base
        unrelated = mean_logit(lab, NEUTRAL, edits) - found.base_unrelated
        assert float(found.effect[0, column]) == pytest.approx(effect, abs=1e-4)
        assert float(found.unrelated[0, column]) == pytest.approx(unrelated, abs=1e-4)
        assert float(found.damage[0, column]) == pytest.approx(
            loss(lab, edits) - found.base_loss, abs=1e-4
        )


def test_the_direction_of_a_token_beats_its_controls(lab, vector):
    found = curve(lab, vector, metrics.logit(20), n_random=4)
    assert found.directions == ("vector", *(f"random {n}" for n in range(4)), "shuffled")
    assert float(found.effect[0, -1]) > 2 * float(found.effect[1:, -1].abs().max())
    assert (found.effect[:, 1] == 0).all() and (found.damage[:, 1] == 0).all()


def test_a_metric_that_appends_its_answer_leaves_the_loss_as_it_is(lab, vector):
    found = curve(lab, vector, metrics.answer_log_probability("34"))
    ids = lab.token_ids("34")
    edits, expected = 3.0 * vector, []
    for text in PROMPTS:
        logprobs = lab.record([*text, *ids], edits=edits).logits.log_softmax(dim=-1)
        rows = range(len(text) - 1, len(text) + len(ids) - 1)
        pairs = zip(rows, ids, strict=True)
        expected.append(sum(float(logprobs[row, token]) for row, token in pairs))
    assert found.base + float(found.effect[0, -1]) == pytest.approx(sum(expected) / 3, abs=1e-3)
    assert float(found.damage[0, -1]) == pytest.approx(loss(lab, edits) - found.base_loss, abs=1e-4)


def test_damage_is_that_of_the_vector_at_all_tokens_wherever_it_is_in_the_prompts(lab, vector):
    """The last token of a text has no loss, so a vector that stays there would look harmless."""
    found = curve(lab, vector.at(positions="last"), metrics.logit(20))
    last = mean_logit(lab, PROMPTS, 3.0 * vector.at(positions="last")) - found.base
    assert float(found.effect[0, -1]) == pytest.approx(last, abs=1e-4)
    expected = loss(lab, 3.0 * vector) - found.base_loss
    assert abs(expected) > 1e-3
    assert float(found.damage[0, -1]) == pytest.approx(expected, abs=1e-4)


def test_other_edits_are_part_of_every_run(lab, vector):
    halved = {"blocks.0.hook_resid_post": lambda value, name: value / 2}
    found = curve(lab, vector, metrics.logit(20), edits=halved)
    assert found.base == pytest.approx(mean_logit(lab, PROMPTS, halved), abs=1e-4)
    both = mean_logit(lab, PROMPTS, [halved, 3.0 * vector])
    assert float(found.effect[0, -1]) == pytest.approx(both - found.base, abs=1e-4)


def test_controls_have_the_norms_of_the_vector_at_the_same_places(vector):
    at = vector.at(positions="generated", hook="hook_mlp_out")
    for control in (steering.random_control(at, seed=3), steering.shuffled_control(at, seed=3)):
        for mine, other in zip(at.additions, control.additions, strict=True):
            assert other.norm == pytest.approx(mine.norm, rel=1e-5)
            assert (other.name, other.place) == (mine.name, mine.place)
            assert abs(float(F.cosine_similarity(mine.direction, other.direction, dim=0))) < 0.6
    shuffled = steering.shuffled_control(vector)
    assert torch.equal(shuffled[1].sort().values, vector[1].sort().values)
    assert steering.random_control(vector, seed=1) == steering.random_control(vector, seed=1)
    assert steering.random_control(vector, seed=1) != steering.random_control(vector, seed=2)


def test_an_interrupt_returns_what_was_measured(lab, vector, monkeypatch):
    runs = []
    record = Lab.record_batch

    def interrupted(self, *args, **options):
        runs.append(1)
        if len(runs) == 4:  # Without a vector, and at two strengths.
            raise KeyboardInterrupt
        return record(self, *args, **options)

    monkeypatch.setattr(Lab, "record_batch", interrupted)
    found = curve(lab, vector, metrics.logit(20))
    assert found.effect[0].isfinite().tolist() == [True, True, True, False]
    assert found.effect[1:].isfinite().sum() == 3  # Strength 0 alone.
    assert "controls there not run" in repr(found)
    runs[:] = [1, 1]
    with pytest.raises(KeyboardInterrupt):
        curve(lab, vector, metrics.logit(20))


def test_the_table_has_a_row_for_each_direction_and_strength(lab, vector):
    found = curve(lab, vector, metrics.logit(20))
    table = found.to_pandas()
    assert len(table) == 4 * 4
    row = table[(table.direction == "shuffled") & (table.strength == 3)]
    assert row.effect.item() == pytest.approx(float(found.effect[3, 3]))
    assert "largest effect" in repr(found) and "nats per token" in repr(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": []}, "no prompts or no neutral texts"),
        ({"neutral": []}, "no prompts or no neutral texts"),
        ({"neutral": [[5]]}, "no neutral text has two tokens"),
        ({"strengths": []}, "expected at least one other than 0"),
        ({"strengths": [0.0]}, "expected at least one other than 0"),
        ({"strengths": [float("inf")]}, "expected finite numbers"),
        ({"metric": metrics.logit(-1)}, "token -1 does not exist"),
        ({"metric": metrics.logit(20, position=2)}, "position 2 does not exist"),
        ({"metric": "logit"}, "metric is 'logit': expected Metric"),
        ({"positions": "generated"}, "which have none: measure"),
        ({"vector": steering.Vector((steering.Addition(5, torch.ones(32)),), "x")}, "layer 5"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_any_run(lab, vector, change, message):
    placed = vector.at(positions=change.get("positions", "all"))
    change = {name: value for name, value in change.items() if name != "positions"}
    given = {"vector": placed, "prompts": PROMPTS, "metric": metrics.logit(20)}
    given |= {"strengths": STRENGTHS, "neutral": NEUTRAL} | change
    with pytest.raises((ValueError, HookError), match=message):
        steering.strength_curve(lab, **given, progress=False)
