"""Every library and every variant of the table: the same activations, from embedding to logits."""

import warnings
from importlib.metadata import version

import pytest
import torch

from qwen3lab.device.dtypes import DTYPES
from qwen3lab.hooks.edits import Edits
from qwen3lab.hooks.points import HOOK_POINTS
from qwen3lab.hooks.taps import Chain, Keep
from qwen3lab.loading import load_model
from tests.peers.adapters import COMPARED, LEFT_OUT, PEERS, activations_of, compared_names
from tests.peers.variants import VARIANTS, write
from tests.peers.versions import PACKAGES, versions
from tests.reference import gap, tokens

NORM_HOOKS = {"hook_scale", "hook_normalized"}
OTHERS = [name for name in PEERS if name != "transformers"]
LIBRARIES = ["transformers", *(pytest.param(name, marks=pytest.mark.peer) for name in OTHERS)]


@pytest.fixture(scope="module", params=VARIANTS)
def row(request, tmp_path_factory):
    """A variant, its folder, and our model."""
    variant = VARIANTS[request.param]
    folder = tmp_path_factory.mktemp("variant")
    write(variant, folder)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        model = load_model(folder, dtype=variant.dtype).eval()
    said = [str(warning.message) for warning in heard]
    assert len(said) == bool(variant.warning)
    assert all(variant.warning in sentence for sentence in said)
    return variant, folder, model


@torch.no_grad()
def ours(model, ids, theirs):
    """Our activations; in half precision with their experts, as nearly tied ones are exchanged."""
    keep, tap = Keep(compared_names(model.config)), None
    if model.embed.weight.dtype != torch.float32:
        chosen = [name for name in theirs if name.endswith("hook_expert_indices")]
        tap = Chain(Edits(dict.fromkeys(chosen, lambda _, name: theirs[name]), model.config), keep)
    model(ids, tap=tap or keep)
    return keep.kept


def bound(dtype):
    """About ten roundings in each of three blocks: an error of sqrt(30) standard deviations."""
    return 1e-5 if dtype == "float32" else 6 * torch.finfo(DTYPES[dtype]).eps


@pytest.mark.parametrize("peer", LIBRARIES)
def test_every_activation_equals_that_of_the_library(row, peer, request):
    variant, folder, model = row
    ids = tokens(length=variant.n_tokens, vocab=97)
    theirs = activations_of(peer, folder, DTYPES[variant.dtype], ids, model.config)
    mine = ours(model, ids, theirs)
    assert theirs.keys() == set(compared_names(model.config))
    experts = {name for name in theirs if name.endswith("hook_expert_indices")}
    assert [name for name in experts if not torch.equal(mine[name], theirs[name])] == []
    gaps = {n: gap(mine[n].float(), theirs[n].float()) for n in theirs.keys() - experts}
    request.node.user_properties.append(("largest_gap", max(gaps.values())))
    assert {name: size for name, size in gaps.items() if size > bound(variant.dtype)} == {}


def test_every_hook_of_the_table_is_compared_or_left_out_for_a_reason():
    hooks = {point.pattern.replace("blocks.{l}.", "") for point in HOOK_POINTS}
    norms = {f"{norm}.{hook}" for norm in ("ln1", "ln2", "ln_final") for hook in NORM_HOOKS}
    assert set(COMPARED) | (LEFT_OUT.keys() - NORM_HOOKS) | norms == hooks


def test_the_versions_that_were_compared_are_printed_and_recorded(
    request, record_testsuite_property
):
    config = request.config
    lines = config.hook.pytest_report_header(config=config, start_path=config.rootpath)
    header = "\n".join(str(line) for line in lines)
    for name, found in versions().items():
        record_testsuite_property(name, found)
        assert f"{name} {found}" in header
    assert f"transformers {version('transformers')}" in header
    assert f"torch {torch.__version__.partition('+')[0]}" in header
    assert len(PACKAGES) == 5
