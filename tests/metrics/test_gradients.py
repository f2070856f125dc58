"""Gradients agree with finite differences in float64, and with torch's own."""

import pytest
import torch

from qwen3lab import metrics
from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import Edits
from tests.lenses.small import small_lab

IDS = [3, 14, 15, 9, 2]
STEP = 1e-5


@pytest.fixture(params=["experts", "dense"])
def lab(request, tiny_tokenizer):
    lab = small_lab(tiny_tokenizer, experts=request.param == "experts")
    lab.model.double()
    return lab


def moved(lab, ids, hook, direction, step):
    """Logits of a run in which an activation is moved along a direction."""
    edits = Edits({hook: lambda value, name: value + step * direction}, lab.config)
    with torch.no_grad():  # A recording would round the logits to float32.
        return lab.model(torch.tensor([ids]), tap=edits)


METRICS = {
    "logit": lambda lab: metrics.logit(20),
    "earlier": lambda lab: metrics.logit_difference(20, 7, position=2),
    "probability": lambda lab: metrics.log_probability(20),
    "kl": lambda lab: metrics.kl_to(lab.record([5, 6, 7])),
    "answer": lambda lab: metrics.answer_log_probability("34"),
}
HOOKS = (
    "hook_embed",
    "blocks.0.attn.hook_q",
    "blocks.1.attn.hook_z",
    "blocks.1.attn.hook_pattern",
    "blocks.1.hook_resid_post",
    "blocks.2.hook_mlp_out",
)
OF_EXPERTS = ("blocks.1.mlp.hook_expert_weights", "blocks.2.mlp.hook_expert_out")


@pytest.mark.parametrize("name", METRICS)
def test_gradients_agree_with_finite_differences(lab, name):
    metric = METRICS[name](lab)
    hooks = [*HOOKS, *(OF_EXPERTS if lab.config.is_moe else ())]
    found = metrics.gradients(lab, IDS, of=metric, hooks=hooks)
    reading = metric.resolve(lab)
    ids = [*IDS, *reading.appended]
    generator = torch.Generator().manual_seed(1)
    for hook in hooks:
        direction = torch.randn(found[hook].shape, generator=generator, dtype=torch.float64)
        above, below = (
            float(reading.read(moved(lab, ids, hook, direction, sign * STEP))[0])
            for sign in (1, -1)
        )
        expected = (above - below) / (2 * STEP)
        assert float((found[hook] * direction).sum()) == pytest.approx(
            expected, rel=3e-3, abs=3e-4
        ), hook


def test_values_and_activations_are_those_of_a_recording(lab):
    found = metrics.gradients(lab, IDS, of=metrics.logit(20), hooks="blocks.*.hook_resid_post")
    rec = lab.record(IDS, capture="blocks.*.hook_resid_post")
    assert found.value == pytest.approx(float(rec.logits[-1, 20]), abs=1e-6)
    for name, value in found.activations.items():
        torch.testing.assert_close(value, rec[name], check_dtype=False)
        assert not value.requires_grad and not found[name].requires_grad


def test_later_tokens_have_no_gradient(lab):
    found = metrics.gradients(lab, IDS, of=metrics.logit(20, position=1))
    for gradient in found.gradients.values():
        assert float(gradient[:2].abs().max()) > 0
        assert float(gradient[2:].abs().max()) == 0


def test_gradients_flow_through_edits(lab):
    halved = {"blocks.1.hook_resid_post": lambda value, name: value * 0.5}
    hooks = ["blocks.1.hook_mlp_out"]
    whole = metrics.gradients(lab, IDS, of=metrics.logit(20), hooks=hooks)
    half = metrics.gradients(lab, IDS, of=metrics.logit(20), hooks=hooks, edits=halved)
    reference = metrics.gradients(
        lab, IDS, of=metrics.logit(20), hooks=["blocks.1.hook_resid_post"], edits=halved
    )
    assert not torch.allclose(whole[hooks[0]], half[hooks[0]])
    torch.testing.assert_close(half[hooks[0]], reference["blocks.1.hook_resid_post"] * 0.5)


def test_a_run_without_gradients_stays_one(lab):
    metrics.gradients(lab, IDS, of=metrics.logit(20))
    assert not lab.record(IDS).logits.requires_grad
    assert all(parameter.grad is None for parameter in lab.model.parameters())


@pytest.mark.parametrize("lab", ["experts"], indirect=True)
def test_the_choice_of_experts_has_no_gradient(lab):
    found = metrics.gradients(lab, IDS, of=metrics.logit(20), hooks="all")
    assert "no gradient" in found.note
    assert not [name for name in found.gradients if name.endswith("indices")]
    with pytest.raises(HookError, match="the choice of experts has no gradient"):
        metrics.gradients(lab, IDS, of=metrics.logit(20), hooks="blocks.1.mlp.hook_expert_indices")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (metrics.logit("12"), "“12” is 2 tokens of small"),
        (metrics.logit(""), "is 0 tokens"),
        (metrics.logit(-1), "token -1 does not exist: small has tokens 0 to 1535"),
        (metrics.logit(2, position=5), "position 5 does not exist: the run has tokens 0 to 4"),
        (metrics.logit_difference(4, 4), "both tokens are"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused(lab, metric, message):
    with pytest.raises(ValueError, match=message):
        metrics.gradients(lab, IDS, of=metric)


def test_something_else_is_no_metric(lab):
    with pytest.raises(ValueError, match="expected"):
        metrics.gradients(lab, IDS, of="logit")
