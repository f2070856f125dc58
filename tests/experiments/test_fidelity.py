"""Fidelity measures, compared with independent computations of the same quantities."""

import copy

import pytest
import torch
from scipy.special import rel_entr, softmax

from qwen3lab.experiments.fidelity import fidelity
from qwen3lab.lab import Lab, load

PROMPTS = ["3+2*7-1=?", "ball 7, key 3, cup 5. key?"]


@pytest.fixture(scope="module")
def noisy(tiny_lab):
    """The same model with slightly perturbed weights."""
    model = copy.deepcopy(tiny_lab.model)
    chance = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.blocks.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=chance)
    return Lab(model, tiny_lab.tokenizer, "noisy")


def test_a_model_compared_with_itself_has_no_differences(tiny_lab):
    found = fidelity(tiny_lab, tiny_lab, PROMPTS)
    assert (found.kl, found.worst_kl, found.same_top, found.logits) == (0.0, 0.0, 1.0, 0.0)
    assert found.experts is not None and torch.equal(found.experts, torch.ones(6))


def test_divergence_matches_scipy_and_expert_agreement_matches_sets(tiny_lab, noisy):
    found = fidelity(tiny_lab, noisy, PROMPTS)
    kls, tops, experts = [], [], []
    for prompt in PROMPTS:
        exact, perturbed = tiny_lab.record(prompt), noisy.record(prompt)
        p, q = (softmax(r.logits.double().numpy(), axis=-1) for r in (exact, perturbed))
        kls += rel_entr(p, q).sum(axis=-1).tolist()
        tops += (p.argmax(axis=-1) == q.argmax(axis=-1)).tolist()
        for ours, theirs in zip(
            exact.routing.experts.transpose(0, 1),
            perturbed.routing.experts.transpose(0, 1),
            strict=True,
        ):
            pairs = zip(ours.tolist(), theirs.tolist(), strict=True)
            experts.append([len({*one} & {*other}) / len(one) for one, other in pairs])
    assert found.n_tokens == len(kls) > 20
    assert found.kl == pytest.approx(sum(kls) / len(kls), rel=1e-3)
    assert found.worst_kl == pytest.approx(max(kls), rel=1e-3)
    assert found.same_top == pytest.approx(sum(tops) / len(tops)) and found.same_top < 1
    assert found.experts is not None
    torch.testing.assert_close(found.experts, torch.tensor(experts).mean(dim=0))
    assert float(found.experts.min()) < 1
    assert f"KL {found.kl:.2g} nats" in str(found) and "same experts" in str(found)


def test_a_constant_added_to_all_logits_is_no_difference(tiny_lab):
    """Softmax does not depend on the constant; a factor on the logits is measured exactly."""
    doubled = copy.deepcopy(tiny_lab.model)
    with torch.no_grad():
        doubled.ln_final.weight *= 1.5
    found = fidelity(tiny_lab, Lab(doubled, tiny_lab.tokenizer), PROMPTS[:1])
    assert found.logits == pytest.approx(0.5, rel=1e-4)
    assert found.same_top == 1.0


def test_a_dense_model_has_no_experts_to_compare():
    lab = load("tiny-dense")
    found = fidelity(lab, lab, PROMPTS)
    assert found.experts is None and "experts" not in str(found)


def test_invalid_comparisons_are_refused(tiny_lab):
    with pytest.raises(ValueError, match=r"no prompts .* expected at least one"):
        fidelity(tiny_lab, tiny_lab, [])
    with pytest.raises(ValueError, match="different sizes"):
        fidelity(tiny_lab, load("tiny-dense"), PROMPTS)
