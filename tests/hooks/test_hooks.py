import pytest
import torch

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError
from qwen3lab.hooks.edits import Edits
from qwen3lab.hooks.points import HOOK_POINTS, hook_names, resolve_hooks
from qwen3lab.hooks.taps import NO_TAP, Chain, Keep, Tap
from qwen3lab.loading import from_transformers
from qwen3lab.model.transformer import Qwen3
from tests.reference import CASES, hf_random, tokens

# All sizes differ, so that swapped axes are noticed.
CONFIG = Qwen3Config(
    d_model=20,
    n_layers=4,
    n_heads=6,
    n_kv_heads=3,
    d_head=8,
    d_mlp=28,
    d_vocab=37,
    n_experts=9,
    n_experts_per_token=4,
    d_expert=10,
    moe_layers=(1, 3),
)
BATCH, POS = 2, 7
SIZES = {
    "batch": BATCH,
    "pos": POS,
    "query": POS,
    "key": POS,
    "1": 1,
    "d_model": 20,
    "head": 6,
    "kv_head": 3,
    "d_head": 8,
    "d_mlp": 28,
    "vocab": 37,
    "expert": 9,
    "k": 4,
}


class Everything:
    """A tap that wants every activation, and notes names and shapes in order."""

    def __init__(self):
        self.seen = []

    def __call__(self, name, value):
        self.seen.append((name, tuple(value.shape)))
        return value

    def wants(self, name):
        return True


@pytest.fixture(scope="module")
def model():
    built = Qwen3(CONFIG).requires_grad_(False)
    built.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return built


@pytest.fixture
def ids():
    return tokens(BATCH, POS, vocab=37)


def test_the_table_has_the_name_and_shape_of_every_activation_of_a_pass(model, ids):
    tap = Everything()
    model(ids, tap=tap)
    table = hook_names(CONFIG)
    declared = [
        (name, tuple(SIZES[axis] for axis in point.axes.split())) for name, point in table.items()
    ]
    assert tap.seen == declared


@pytest.mark.parametrize("name", CASES)
def test_hook_names_are_those_of_the_pass_in_order_for_every_architecture(name):
    model = from_transformers(hf_random(name))
    tap = Everything()
    model(tokens(), tap=tap)
    assert [hook for hook, _ in tap.seen] == list(hook_names(model.config))


def test_activations_on_request_are_not_computed_without_a_request(model, ids):
    class WantsNothing(Everything):
        def wants(self, name):
            return False

    tap = WantsNothing()
    with torch.no_grad():  # With gradients, norms run fused, too, as on a GPU.
        model(ids, tap=tap)
    seen = [name for name, _ in tap.seen]
    absent = {name.rpartition(".")[2] for name in hook_names(CONFIG) if name not in seen}
    assert absent == {"hook_attn_scores", "hook_pattern", "hook_result"}
    marked = {p.pattern.rpartition(".")[2] for p in HOOK_POINTS if p.on_request}
    assert absent <= marked


def test_every_hook_point_has_a_meaning_and_its_own_name():
    assert all(point.meaning for point in HOOK_POINTS)
    assert len({point.pattern for point in HOOK_POINTS}) == len(HOOK_POINTS)


def test_names_globs_and_all_are_resolved_in_the_order_of_the_pass():
    assert resolve_hooks("all", CONFIG) == list(hook_names(CONFIG))
    assert resolve_hooks("blocks.*.hook_resid_post", CONFIG) == [
        f"blocks.{layer}.hook_resid_post" for layer in range(4)
    ]
    asked = ["ln_final.hook_scale", "blocks.3.mlp.hook_*weights", "blocks.1.mlp.*weights"]
    assert resolve_hooks([*asked, "ln_final.hook_scale"], CONFIG) == [
        "blocks.1.mlp.hook_expert_weights",
        "blocks.3.mlp.hook_expert_weights",
        "ln_final.hook_scale",
    ]
    assert resolve_hooks([], CONFIG) == []


def message_for(wanted):
    with pytest.raises(HookError) as caught:
        resolve_hooks(wanted, CONFIG)
    return str(caught.value)


def test_an_unknown_name_is_refused_with_the_most_similar_names():
    message = message_for("blocks.1.hook_residpost")
    assert message.startswith("no hook of this model matches 'blocks.1.hook_residpost': the most ")
    assert "blocks.1.hook_resid_post" in message
    assert "see qwen3lab.hooks.points.HOOK_POINTS" in message_for("9876")


def test_a_layer_that_does_not_exist_is_refused_with_the_existing_layers():
    message = message_for("blocks.4.hook_resid_post")
    assert message == "'blocks.4.hook_resid_post' does not exist: the model has layers 0 to 3"


def test_a_hook_of_the_wrong_kind_of_layer_is_refused_with_the_layers_that_have_it():
    message = message_for("blocks.2.mlp.hook_router_logits")
    assert message == (
        "'blocks.2.mlp.hook_router_logits' does not exist: layer 2 is dense, "
        "and only layers 1, 3 have experts"
    )
    message = message_for("blocks.1.mlp.hook_post")
    assert message == (
        "'blocks.1.mlp.hook_post' does not exist: layer 1 has experts, "
        "and only layers 0, 2 are dense"
    )


def test_a_hook_of_experts_is_refused_for_a_model_without_experts():
    dense = from_transformers(hf_random("dense")).config
    with pytest.raises(HookError, match="layer 1 is dense, and no layer of this model has experts"):
        resolve_hooks("blocks.1.mlp.hook_expert_weights", dense)


def test_a_glob_that_matches_nothing_is_refused():
    assert "no hook of this model matches 'blocks.*.attn.hook_patern'" in message_for(
        ["hook_embed", "blocks.*.attn.hook_patern"]
    )


def test_an_edit_of_an_unknown_name_is_refused_before_any_pass():
    with pytest.raises(HookError, match="the model has layers 0 to 3"):
        Edits({"blocks.7.hook_mlp_out": lambda value, name: None}, CONFIG)


def test_an_edit_that_changes_the_shape_is_refused_with_both_shapes(model, ids):
    edits = Edits({"blocks.1.hook_mlp_out": lambda value, name: value[:, :3]}, CONFIG)
    with pytest.raises(HookError) as caught:
        model(ids, tap=edits)
    assert str(caught.value) == (
        "the edit of blocks.1.hook_mlp_out returned shape (2, 3, 20): "
        "expected (2, 7, 20), the shape of the activation"
    )


def test_an_edit_that_returns_no_tensor_is_refused(model, ids):
    edits = Edits({"hook_embed": lambda value, name: 0.0}, CONFIG)
    with pytest.raises(HookError) as caught:
        model(ids, tap=edits)
    assert str(caught.value) == "the edit of hook_embed returned a float: expected a tensor or None"


def test_the_result_of_an_edit_is_converted_to_the_dtype_of_the_activation(model, ids):
    kept = Keep(["blocks.0.hook_resid_pre"])
    edits = Edits({"blocks.0.hook_resid_pre": lambda value, name: value.double() * 2}, CONFIG)
    embedded = Keep(["hook_embed"])
    model(ids, tap=Chain(edits, kept, embedded))
    edited = kept.kept["blocks.0.hook_resid_pre"]
    assert edited.dtype == torch.float32
    assert torch.equal(edited, 2 * embedded.kept["hook_embed"])


def test_an_edit_that_returns_none_changes_nothing_even_if_it_writes_in_place(model, ids):
    def write_in_place(value, name):
        value.zero_()

    everywhere = Edits({"*": write_in_place}, CONFIG)
    unedited = Everything()
    assert torch.equal(model(ids, tap=everywhere), model(ids, tap=unedited))


def test_the_rest_of_the_pass_uses_the_edited_activation(model, ids):
    zeroed = {f"blocks.{layer}.hook_*_out": lambda v, _: 0 * v for layer in range(4)}
    keep = Keep(["hook_embed", "blocks.3.hook_resid_post", "ln_final.hook_normalized"])
    logits = model(ids, tap=Chain(Edits(zeroed, CONFIG), keep))
    embedded = keep.kept["hook_embed"]
    assert torch.equal(keep.kept["blocks.3.hook_resid_post"], embedded)
    normed = embedded / (embedded.square().mean(-1, keepdim=True) + CONFIG.eps).sqrt()
    torch.testing.assert_close(logits, normed @ model.unembed.weight.T)


def test_an_edit_of_any_hook_changes_the_logits(model, ids):
    """An edit of any hook must change the output."""
    plain = model(ids)
    for name in hook_names(CONFIG):
        changed = Edits({name: lambda v, _: v.roll(1, dims=1)}, CONFIG)
        assert (model(ids, tap=changed) - plain).abs().max() > 1e-5, name


def test_edited_experts_are_weighted_by_their_own_probabilities(model, ids):
    swap = Edits({"blocks.1.mlp.hook_expert_indices": lambda v, _: (v + 1) % 9}, CONFIG)
    name = "blocks.1.mlp.hook_"
    keep = Keep([f"{name}router_logits", f"{name}expert_indices", f"{name}expert_weights"])
    model(ids, tap=Chain(swap, keep))
    probabilities = keep.kept[f"{name}router_logits"].softmax(-1)
    chosen = probabilities.gather(-1, keep.kept[f"{name}expert_indices"])
    expected = chosen / chosen.sum(-1, keepdim=True)
    torch.testing.assert_close(keep.kept[f"{name}expert_weights"], expected)


def test_edits_of_one_hook_are_applied_in_order(model, ids):
    edits = {
        "hook_embed": lambda v, _: v + 1,
        "hook_emb*": lambda v, _: v * 10,
    }
    keep, before = Keep(["hook_embed"]), Keep(["hook_embed"])
    model(ids, tap=Chain(before, Edits(edits, CONFIG), keep))
    expected = (before.kept["hook_embed"] + 1) * 10
    assert torch.equal(keep.kept["hook_embed"], expected)


def test_a_chain_passes_each_tap_the_result_of_the_previous_one():
    first = Edits({"hook_embed": lambda v, _: v + 1}, CONFIG)
    second = Edits({"hook_embed": lambda v, _: v * 2}, CONFIG)
    x = torch.ones(1, 2, 20)
    assert (Chain(first, second)("hook_embed", x) == 4).all()
    assert (Chain(second, first)("hook_embed", x) == 3).all()
    assert (x == 1).all()


def test_a_chain_wants_a_hook_if_any_of_its_taps_does():
    chain = Chain(Keep(["hook_embed"]), Edits({"hook_unembed": lambda v, _: None}, CONFIG))
    assert chain.wants("hook_embed") and chain.wants("hook_unembed")
    assert not chain.wants("blocks.0.hook_resid_pre")
    assert isinstance(chain, Tap)


def test_no_tap_wants_nothing_and_returns_the_same_tensor():
    x = torch.ones(1)
    assert NO_TAP("hook_embed", x) is x
    assert not any(NO_TAP.wants(name) for name in hook_names(CONFIG))


def test_keep_keeps_only_its_hooks_detached(ids):
    model = Qwen3(CONFIG)
    model.init_weights(torch.Generator().manual_seed(0))
    keep = Keep(["blocks.0.hook_resid_post"])
    logits = model(ids, tap=keep)
    assert list(keep.kept) == ["blocks.0.hook_resid_post"]
    assert logits.requires_grad and not keep.kept["blocks.0.hook_resid_post"].requires_grad
