"""Attribution patching is the slope of patching, and says how well it agrees with it."""

import pytest
import torch

from qwen3lab import patching
from qwen3lab.hooks.edits import Edits
from qwen3lab.patching import attribution
from qwen3lab.patching.results import agreement_of
from tests.patching.planted import CLEAN, CORRUPT, small_lab

METRIC = patching.logit_difference(20, 7)
STEP = 1e-4


@pytest.fixture(scope="module")
def moe(tiny_tokenizer):
    lab = small_lab(tiny_tokenizer, experts=True)
    lab.model.double()
    return lab


def attributed(lab, site, **options):
    given = {"clean": CLEAN, "corrupt": CORRUPT, "metric": METRIC, "progress": False}
    return patching.attribution_patching(lab, site=site, **(given | options))


def kept(lab, ids, hook):
    found = {}
    edits = Edits({hook: lambda value, name: found.update({name: value.clone()})}, lab.config)
    with torch.no_grad():
        lab.model(torch.tensor([ids]), tap=edits)
    return found[hook]


def slope(lab, base, hook, change):
    """The derivative of the metric along a change of an activation, by finite differences."""
    values = []
    for sign in (1, -1):
        moved = {hook: lambda value, name, sign=sign: value + sign * STEP * change}
        with torch.no_grad():
            logits = lab.model(torch.tensor([base]), tap=Edits(moved, lab.config))
        values.append(float(logits[0, -1, 20] - logits[0, -1, 7]))
    return (values[0] - values[1]) / (2 * STEP)


CASES = {
    ("resid_post", None, (1, 5)): ("blocks.1.hook_resid_post", lambda c, i: c[:, 5]),
    ("attn_out", None, (0, 2)): ("blocks.0.hook_attn_out", lambda c, i: c[:, 2]),
    ("z", None, (1, 3)): ("blocks.1.attn.hook_z", lambda c, i: c[:, :, 3]),
    ("k", "token", (1, 1, 2)): ("blocks.1.attn.hook_k", lambda c, i: c[:, 2, 1]),
    ("pattern", None, (2, 0)): ("blocks.2.attn.hook_pattern", lambda c, i: c[:, 0]),
    ("mlp_out", None, (2, 5)): ("blocks.2.hook_mlp_out", lambda c, i: c[:, 5]),
}


@pytest.mark.parametrize("direction", ["denoise", "noise"])
@pytest.mark.parametrize("case", CASES)
def test_each_cell_is_the_slope_along_the_change_of_the_activation(moe, case, direction):
    site, by, index = case
    hook, part = CASES[case]
    base, other = (CORRUPT, CLEAN) if direction == "denoise" else (CLEAN, CORRUPT)
    change = torch.zeros_like(kept(moe, base, hook))
    part(change, 0)[:] = part(kept(moe, other, hook) - kept(moe, base, hook), 0)
    expected = slope(moe, base, hook, change)
    found = attributed(moe, site, by=by, direction=direction, check=0)
    effect = float(found.raw[index]) - found.start
    assert abs(expected) > 1e-3
    assert effect == pytest.approx(expected, rel=2e-3, abs=1e-5)


def test_what_an_expert_adds_has_the_slope_of_the_stream(moe):
    experts = attributed(moe, "expert", by="token", check=0)
    whole = attributed(moe, "mlp_out", layers=[1, 2], check=0)
    # The sum of all experts' changes is that of the layer's output.
    torch.testing.assert_close(
        (experts.raw - experts.start).sum(dim=1), whole.raw - whole.start, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("site", ["router", "expert_weight", "expert_out"])
def test_routed_sites_have_a_slope(moe, site):
    found = attributed(moe, site, check=0)
    assert float((found.raw - found.start).abs().max()) > 1e-3


def test_small_changes_agree_with_exact_patches(moe):
    """With a token embedding that hardly differs, the first order is all there is."""
    near = moe.model.embed.weight
    saved = near.detach().clone()
    try:
        with torch.no_grad():
            near[CLEAN[2]] = near[CORRUPT[2]] + 1e-3 * (near[CLEAN[2]] - near[CORRUPT[2]])
        options = {"clean": CLEAN, "corrupt": [*CORRUPT[:-1], CLEAN[-1]]}
        quick = attributed(moe, "resid_mid", **options)
        exact = patching.patch(moe, metric=METRIC, site="resid_mid", progress=False, **options)
    finally:
        with torch.no_grad():
            near.copy_(saved)
    found = quick.agreement(exact)
    assert found.correlation > 0.999 and found.same_sign == 1 and found.n_cells == 18
    assert quick.measured.correlation > 0.999


def test_the_agreement_is_that_of_the_cells_that_were_run(moe):
    quick, exact = (
        attributed(moe, "z", by="token", check=10**6),
        patching.patch(
            moe, clean=CLEAN, corrupt=CORRUPT, metric=METRIC, site="z", by="token", progress=False
        ),
    )
    # Nothing moves before the first token that differs.
    both = torch.stack([quick.effects[..., 2:].flatten(), exact.effects[..., 2:].flatten()])
    expected = torch.corrcoef(both)[0, 1]
    assert quick.measured.correlation == pytest.approx(float(expected), abs=1e-4)
    assert quick.measured.n_cells == 3 * 4 * 4
    assert f"correlation {quick.measured.correlation:.2f}" in repr(quick)
    assert attributed(moe, "z", check=5).measured.n_cells == 5
    assert attributed(moe, "z", check=0).measured is None


def test_half_of_the_checked_cells_are_those_with_the_largest_estimates(moe, monkeypatch):
    given, run = [], attribution.sweep

    def noted(lab, base, cells, *args, **options):
        given.extend(cell.place for cell in cells)
        return run(lab, base, cells, *args, **options)

    monkeypatch.setattr(attribution, "sweep", noted)
    quick = attributed(moe, "resid_mid", check=6)
    largest = quick.effects.flatten().abs().argsort(descending=True)[:3]
    expected = {(int(cell) // len(CLEAN), int(cell) % len(CLEAN)) for cell in largest}
    assert expected <= set(given) and len(given) == 6


def test_agreement_counts_correlation_and_signs():
    found = torch.tensor([1.0, 2.0, -3.0, torch.nan, 5.0])
    exact = torch.tensor([2.0, 4.0, 1.0, 7.0, 0.0001])
    both = agreement_of(found, exact)
    kept = torch.tensor([[1.0, 2.0, -3.0, 5.0], [2.0, 4.0, 1.0, 0.0001]])
    assert both.n_cells == 4
    assert both.correlation == pytest.approx(float(torch.corrcoef(kept)[0, 1]), abs=1e-6)
    # The last cell is below 1 % of the largest; of the others, two of three have the same sign.
    assert both.same_sign == pytest.approx(2 / 3)
    assert agreement_of(found[:0], exact[:0]).n_cells == 0


def test_an_answer_of_several_tokens_has_a_slope(moe):
    metric = patching.answer_log_probability("34")
    found = attributed(moe, "resid_post", metric=metric, check=0)
    assert found.values.shape == (3, len(CLEAN) + len(moe.token_ids("34")))
    assert float(found.effects.abs().max()) > 1e-3


def test_sweeps_of_other_cells_are_not_compared(moe):
    one, other = attributed(moe, "z", check=0), attributed(moe, "v", check=0)
    with pytest.raises(ValueError, match="expected the same site, axes, layers and tokens"):
        one.agreement(other)


def test_the_choice_of_experts_is_refused(moe):
    with pytest.raises(ValueError, match="'expert_choice' has no gradient"):
        attributed(moe, "expert_choice")
