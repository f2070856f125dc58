"""Sweeps equal those of TransformerLens on the same random weights."""

import pytest
import torch

from qwen3lab import patching
from qwen3lab.lab import Lab
from tests.peers.words import word_tokenizer
from tests.reference import hf_random

pytestmark = pytest.mark.peer

CLEAN, CORRUPT = [5, 6, 7, 8, 9], [5, 16, 7, 8, 19]
FIRST, SECOND = 20, 30
SWEEPS = {
    ("resid_pre", None): "get_act_patch_resid_pre",
    ("resid_mid", None): "get_act_patch_resid_mid",
    ("attn_out", None): "get_act_patch_attn_out",
    ("mlp_out", None): "get_act_patch_mlp_out",
    ("z", None): "get_act_patch_attn_head_out_all_pos",
    ("z", "token"): "get_act_patch_attn_head_out_by_pos",
    ("q", None): "get_act_patch_attn_head_q_all_pos",
    ("k", None): "get_act_patch_attn_head_k_all_pos",
    ("v", None): "get_act_patch_attn_head_v_all_pos",
    ("v", "token"): "get_act_patch_attn_head_v_by_pos",
    ("pattern", None): "get_act_patch_attn_head_pattern_all_pos",
    ("pattern", "token"): "get_act_patch_attn_head_pattern_by_pos",
}


@pytest.fixture(scope="module", params=["dense", "experts, one dense layer"])
def both(request, tmp_path_factory):
    """A lab and TransformerLens' model of the same weights."""
    bridge = pytest.importorskip("transformer_lens.model_bridge").TransformerBridge
    folder = tmp_path_factory.mktemp("peer")
    hf = hf_random(request.param)
    hf.save_pretrained(folder)
    tokenizer = word_tokenizer(97)
    tokenizer.save_pretrained(folder)
    theirs = bridge.boot_transformers(str(folder)).eval()
    theirs.original_model.config._experts_implementation = "eager"
    return Lab.from_transformers(hf, tokenizer), theirs


def difference(logits):
    return logits[0, -1, FIRST] - logits[0, -1, SECOND]


@pytest.mark.parametrize(("site", "by"), SWEEPS)
def test_a_sweep_has_the_same_metric_in_every_cell(both, site, by):
    lab, theirs = both
    their_sweeps = pytest.importorskip("transformer_lens.patching")
    with torch.no_grad():
        _, cache = theirs.run_with_cache(torch.tensor([CLEAN]))
        sweep = getattr(their_sweeps, SWEEPS[site, by])
        expected = sweep(theirs, torch.tensor([CORRUPT]), cache, difference)
    found = patching.patch(
        lab,
        clean=CLEAN,
        corrupt=CORRUPT,
        metric=patching.logit_difference(FIRST, SECOND),
        site=site,
        by=by,
        progress=False,
    )
    raw = found.raw
    if (
        by == "token"
    ):  # Theirs is [layer, position, head], but for patterns [layer, head, position].
        expected = expected.movedim(1, 2) if expected.shape != raw.shape else expected
    assert expected.shape == raw.shape
    assert float((raw - found.corrupt).abs().max()) > 1e-2
    torch.testing.assert_close(raw, expected, atol=1e-4, rtol=1e-4)


def test_attribution_patching_has_the_same_estimates(both):
    lab, theirs = both
    analysis = pytest.importorskip("transformer_lens.tools.analysis.attribution_patching")
    clean, corrupt = torch.tensor([CLEAN]), torch.tensor([CORRUPT])
    scores = analysis.attribution_patch(theirs, clean, corrupt, difference).node_scores
    of = {
        "attn_head_out": attributed(lab, "z", by="token"),
        "mlp_out": attributed(lab, "mlp_out"),
    }
    compared = 0
    for node, expected in scores.items():
        if node.kind in of:
            found, head = of[node.kind], () if node.head is None else (node.head,)
            effect = float(found.raw[(node.layer, *head, node.position)]) - found.start
            assert effect == pytest.approx(expected, abs=2e-4), node
            compared += 1
    assert compared == 3 * 4 * 5 + 3 * 5


def attributed(lab, site, **options):
    return patching.attribution_patching(
        lab,
        clean=CLEAN,
        corrupt=CORRUPT,
        metric=patching.logit_difference(FIRST, SECOND),
        site=site,
        check=0,
        progress=False,
        **options,
    )


def test_paths_between_heads_have_the_same_metric(both):
    lab, theirs = both
    their_sweeps = pytest.importorskip("transformer_lens.patching")
    with torch.no_grad():
        caches = [theirs.run_with_cache(torch.tensor([ids]))[1] for ids in (CLEAN, CORRUPT)]
        expected = their_sweeps.get_act_patch_direct_path(
            theirs, torch.tensor([CORRUPT]), *caches, difference, 0, 2, "q", verbose=False
        )
    found = patching.path_patching(
        lab,
        clean=CLEAN,
        corrupt=CORRUPT,
        metric=patching.logit_difference(FIRST, SECOND),
        sender=patching.head(0, 2),
        to="q",
        progress=False,
    )
    assert float((found.raw - found.corrupt).abs().max()) > 1e-3
    torch.testing.assert_close(found.raw, expected[1:], atol=1e-4, rtol=1e-4)
