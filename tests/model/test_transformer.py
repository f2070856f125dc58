"""The forward pass equals the eager one of transformers on the same random weights."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qwen3lab.hooks.edits import Edits
from qwen3lab.hooks.points import hook_names
from qwen3lab.hooks.taps import NO_TAP, Chain, Keep
from qwen3lab.loading import from_transformers
from qwen3lab.model import experts
from qwen3lab.model.transformer import Qwen3
from tests.graph_stand_in import Pretended
from tests.reference import (
    CASES,
    gap,
    hf_activations,
    hf_random,
    our_activations,
    positions,
    small_config,
    tokens,
)

MOE_CASES = [name for name in CASES if "experts" in name]
# 20 tokens; for YaRN also 100, beyond the original context of 64 tokens.
LENGTHS = [(name, 20) for name in CASES] + [(name, 100) for name in CASES if "yarn" in name]


@pytest.fixture(scope="module", params=["dense", "experts, one dense layer"])
def model(request):
    return from_transformers(hf_random(request.param))


@pytest.mark.parametrize(("name", "length"), LENGTHS)
def test_every_activation_equals_that_of_transformers(name, length):
    hf = hf_random(name)
    ids = tokens(length=length)
    theirs = hf_activations(hf, ids)
    ours = our_activations(from_transformers(hf), ids)
    choices = {hook for hook in theirs if hook.endswith("hook_expert_indices")}
    gaps = {hook: gap(ours[hook], theirs[hook]) for hook in theirs.keys() - choices}
    print(f"{name}, {length} tokens: largest gap {max(gaps.values()):.1e}")
    assert {hook: size for hook, size in gaps.items() if size > 1e-5} == {}
    for hook in choices:
        assert torch.equal(ours[hook], theirs[hook])


@pytest.mark.parametrize("name", CASES)
def test_the_comparison_leaves_no_layer_out(name):
    hf = hf_random(name)
    config = from_transformers(hf).config
    theirs = hf_activations(hf, tokens())
    for hook in ("attn.hook_pattern", "hook_resid_post", "hook_attn_out", "hook_mlp_out"):
        assert all(f"blocks.{layer}.{hook}" in theirs for layer in range(config.n_layers))
    routed = [layer for layer in range(3) if f"blocks.{layer}.mlp.hook_router_logits" in theirs]
    assert tuple(routed) == config.moe_layers
    assert bool(routed) == (name in MOE_CASES)


@pytest.mark.parametrize(("name", "length"), LENGTHS)
def test_the_fused_pass_gives_the_logits_of_transformers(name, length):
    hf = hf_random(name)
    ids = tokens(length=length)
    with torch.no_grad():
        assert gap(from_transformers(hf)(ids), hf(ids).logits) < 1e-5


@pytest.mark.parametrize("name", ["dense", "experts", "experts, yarn"])
def test_activations_of_a_left_padded_batch_equal_those_of_transformers(name):
    hf = hf_random(name)
    ids, mask = tokens(), torch.ones(2, 20, dtype=torch.bool)
    mask[1, :7] = False
    theirs = hf_activations(hf, ids, mask)
    ours = our_activations(from_transformers(hf), ids, mask)
    for hook in theirs:
        if not hook.endswith(("hook_pattern", "hook_expert_indices")):
            assert gap(ours[hook][mask], theirs[hook][mask]) < 1e-5, hook


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["dense", "dense, yarn", "experts", "experts, one dense layer"])
def test_half_precision_is_as_close_to_float32_as_transformers_is(name, dtype):
    hf = hf_random(name, dtype=dtype)
    # In half precision, transformers' rotary angles would add an error of their own.
    assert hf.model.rotary_emb.inv_freq.dtype == torch.float32
    ids = tokens()
    theirs = hf_activations(hf, ids)
    # Rounding changes the choice between nearly tied experts: all passes use the same experts.
    experts_by_hook = {
        hook: v for hook, v in theirs.items() if hook.endswith("hook_expert_indices")
    }
    ours = with_experts(from_transformers(hf), ids, experts_by_hook)
    exact = with_experts(from_transformers(hf).float(), ids, experts_by_hook)

    eps = torch.finfo(dtype).eps
    for hook in theirs.keys() & ours.keys() - experts_by_hook.keys():
        assert ours[hook].dtype == dtype, hook
        difference, their_error, our_error = (
            gap(x.float(), y.float())
            for x, y in [
                (ours[hook], theirs[hook]),
                (theirs[hook], exact[hook]),
                (ours[hook], exact[hook]),
            ]
        )
        # About ten roundings in each of three blocks: an error of sqrt(30) standard deviations.
        assert difference < 6 * eps, hook
        assert our_error < 1.5 * their_error + eps, hook


def with_experts(model, ids, experts_by_hook):
    def replace(_, name):
        return experts_by_hook[name]

    edits = Edits(dict.fromkeys(experts_by_hook, replace), model.config)
    keep = Keep(hook_names(model.config))
    with torch.no_grad():
        model(ids, tap=Chain(edits, keep))
    return keep.kept


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_chooses_other_experts_only_if_they_are_nearly_tied(dtype):
    hf = hf_random("experts", dtype=dtype)
    ids = tokens(batch=8)
    theirs = hf_activations(hf, ids)
    experts_by_hook = {
        hook: v for hook, v in theirs.items() if hook.endswith("hook_expert_indices")
    }
    ours = with_experts(from_transformers(hf), ids, experts_by_hook)
    for layer in range(3):
        logits = theirs[f"blocks.{layer}.mlp.hook_router_logits"].float()
        chosen = ours[f"blocks.{layer}.mlp.hook_router_logits"].float().topk(3).indices
        best, chosen_logits = (
            logits.topk(3).values,
            logits.gather(-1, chosen).sort(descending=True).values,
        )
        assert (best - chosen_logits).max() < 6 * torch.finfo(dtype).eps * logits.abs().max()


def test_a_norm_in_half_precision_rounds_before_the_weight_like_the_reference():
    hf = hf_random("dense", dtype=torch.bfloat16)
    x = torch.randn(500, 48, generator=torch.Generator().manual_seed(0)).bfloat16()
    with torch.no_grad():
        ours, theirs = from_transformers(hf).ln_final(x), hf.model.norm(x)
        late = (hf.model.norm.weight.float() * F.rms_norm(x.float(), (48,), eps=1e-6)).bfloat16()
    # Dividing by a root and multiplying by its inverse differ in about one of 1000 values.
    assert (ours == theirs).float().mean() > 0.999
    assert (ours == late).float().mean() < 0.9


@pytest.mark.parametrize("name", ["experts", "experts, weights not renormalised"])
def test_router_weights_in_half_precision_equal_the_reference_bit_for_bit(name):
    hf = hf_random(name, dtype=torch.bfloat16)
    x = torch.randn(1, 200, 48, generator=torch.Generator().manual_seed(0)).bfloat16()
    names = [f"blocks.0.mlp.hook_{n}" for n in ("router_logits", "expert_weights")]
    keep = Keep([*names, "blocks.0.mlp.hook_expert_indices"])
    with torch.no_grad():
        from_transformers(hf).blocks[0].mlp(x, keep)
        logits, weights, experts = hf.model.layers[0].mlp.gate(x)
    assert torch.equal(keep.kept[names[0]][0], logits)
    assert torch.equal(keep.kept[names[1]][0], weights)
    assert torch.equal(keep.kept["blocks.0.mlp.hook_expert_indices"][0], experts)


def test_explicit_attention_gives_the_logits_of_fused_attention(model):
    ids = tokens()
    with torch.no_grad():
        plain = model(ids)
        for hook in ("hook_attn_scores", "hook_pattern"):
            keep = Keep(f"blocks.{layer}.attn.{hook}" for layer in range(3))
            assert gap(model(ids, tap=keep), plain) < 1e-5
            assert len(keep.kept) == 3


@pytest.mark.parametrize("hook", ["hook_rot_q", "hook_rot_k", "hook_v"])
@pytest.mark.parametrize("length", [1, 2, 5, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_value_that_is_not_a_number_spreads_through_either_attention_path(
    model, hook, length, dtype
):
    def spoil(name, value):
        if name == f"blocks.1.attn.{hook}":
            value = value.clone()
            value[0, length - 1, 0, 3] = torch.nan
        return value

    half = copy.deepcopy(model).to(dtype)
    spread = []
    for explicit in (False, True):
        keep = Keep(["blocks.1.attn.hook_z"] + explicit * ["blocks.1.attn.hook_pattern"])
        tap = Chain(_Edit(spoil), keep)
        with torch.no_grad():
            half(tokens(batch=1, length=length, vocab=half.config.d_vocab), tap=tap)
        spread.append(keep.kept["blocks.1.attn.hook_z"].isnan().any(dim=-1))
    assert spread[0].any() and torch.equal(*spread)


class _Edit:
    def __init__(self, change):
        self.change = change

    def __call__(self, name, value):
        return self.change(name, value)

    def wants(self, name):
        return False


def test_head_results_sum_to_the_attention_output(model):
    kept = our_activations(model, tokens())
    fused = our_activations(model, tokens(), names=["blocks.1.hook_attn_out"])
    total = kept["blocks.1.attn.hook_result"].sum(dim=2)
    assert gap(total, kept["blocks.1.hook_attn_out"]) < 1e-6
    assert gap(total, fused["blocks.1.hook_attn_out"]) < 1e-5


def test_weighted_expert_outputs_sum_to_the_output_of_the_layer():
    model = from_transformers(hf_random("experts, weights not renormalised"))
    kept = our_activations(model, tokens())
    for layer in range(3):
        name = f"blocks.{layer}.mlp"
        weights, out = kept[f"{name}.hook_expert_weights"], kept[f"{name}.hook_expert_out"]
        total = sum(weights[..., k, None] * out[..., k, :] for k in range(3))
        assert gap(total, kept[f"blocks.{layer}.hook_mlp_out"]) < 1e-6


WAYS = ("_gathered", "_padded", "_grouped", "_looped")


@pytest.mark.parametrize("n_tokens", [1, 2, 40])
@pytest.mark.parametrize("way", WAYS)
def test_every_dispatch_of_experts_equals_a_loop_over_tokens(monkeypatch, way, n_tokens):
    model = from_transformers(hf_random("experts"))
    layer = model.blocks[0].mlp
    if way == "_grouped" and not hasattr(F, "grouped_mm"):
        pytest.skip("this torch has no grouped product")
    monkeypatch.setattr(experts, "gathering_pays", lambda *_: way == "_gathered")
    monkeypatch.setattr(experts, "padding_pays", lambda *_: way == "_padded")
    if way != "_grouped":
        monkeypatch.setattr(experts, "grouping_pays", lambda *_: False)
    for other in {*WAYS} - {way}:
        monkeypatch.delattr(experts, other)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, n_tokens, 48, generator=generator)
    chosen = torch.stack([torch.randperm(8, generator=generator)[:3] for _ in range(n_tokens)])
    with torch.no_grad():
        expected = loop_over_tokens(layer, x[0], chosen)
        assert gap(experts.dispatch(layer, x, chosen[None])[0], expected) < 1e-5


@pytest.mark.parametrize("n_tokens", [1, 8, 40, 600])
@pytest.mark.parametrize("sizes", [{"d_model": 46}, {"d_expert": 17}])
def test_experts_of_widths_that_a_grouped_product_refuses_equal_a_loop(sizes, n_tokens):
    layer = Qwen3(small_config(**sizes)).blocks[-1].mlp
    generator = torch.Generator().manual_seed(0)
    for weights in layer.parameters():
        nn.init.normal_(weights, std=0.1, generator=generator)
    x = torch.randn(1, n_tokens, layer.gate_up.shape[-1], generator=generator)
    chosen = torch.stack([torch.randperm(8, generator=generator)[:3] for _ in range(n_tokens)])
    with torch.no_grad():
        expected = loop_over_tokens(layer, x[0], chosen)
        assert gap(experts.dispatch(layer, x, chosen[None])[0], expected) < 1e-5


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0), (10, 0), (12, 0)])
def test_a_gpu_without_a_grouped_product_gathers_experts_for_few_tokens(monkeypatch, capability):
    """Such as an A100: other dispatches synchronise in every layer and cannot be captured."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(experts, "MAX_SMALL_EXPERT_VALUES", 0)
    layer = from_transformers(hf_random("experts")).blocks[0].mlp.bfloat16()
    for name in ("gate_up", "down"):
        setattr(layer, name, nn.Parameter(getattr(layer, name).detach().as_subclass(Pretended)))
    x = layer.router.weight.detach().as_subclass(Pretended)
    has_grouped = capability[0] in (9, 10) and hasattr(F, "grouped_mm")
    monkeypatch.setattr(experts, "MAX_GATHERED_BYTES", 6 * layer.gate_up[0].nbytes)
    with torch.no_grad():
        assert [experts.gathering_pays(layer, n, x) for n in (3, 6, 7, 12)] == [
            not has_grouped,
            not has_grouped,
            False,
            False,
        ]
        assert [experts.has_fixed_steps(layer, n, x) for n in (6, 9)] == [True, has_grouped]


def test_directly_summed_outputs_equal_the_sum_of_recorded_ones(monkeypatch):
    """A long prompt: compares with each expert's output, weighted and summed in the test."""
    layer = from_transformers(hf_random("experts")).blocks[0].mlp
    monkeypatch.setattr(experts, "MAX_SMALL_EXPERT_VALUES", 0)
    monkeypatch.setattr(experts, "MAX_BATCHED_TOKENS_PER_EXPERT", 4)
    x = torch.randn(2, 20, 48, generator=torch.Generator().manual_seed(0))
    kept = Keep([f"{layer.name}.hook_expert_{part}" for part in ("out", "weights")])
    with torch.no_grad():
        recorded = layer(x, kept)
        weights, out = (kept.kept[f"{layer.name}.hook_expert_{p}"] for p in ("weights", "out"))
        monkeypatch.delattr(experts, "dispatch")
        summed = layer(x, NO_TAP)
    assert gap(summed, (weights[..., None] * out).sum(dim=2)) < 1e-6
    assert gap(summed, recorded) < 1e-6


def test_gradients_and_short_prompts_are_not_summed_directly(monkeypatch):
    layer = from_transformers(hf_random("experts")).blocks[0].mlp
    monkeypatch.setattr(experts, "MAX_SMALL_EXPERT_VALUES", 0)
    chosen = torch.zeros(1, 65 * 8, 1, dtype=torch.long)
    assert not experts.sums_directly(layer, chosen)
    with torch.no_grad():
        assert experts.sums_directly(layer, chosen)
        assert not experts.sums_directly(layer, chosen[:, : 64 * 8])


def loop_over_tokens(layer, x, chosen):
    """The output of each token's experts, one product after another."""
    return torch.stack(
        [
            torch.stack([one_expert(layer, token, e) for e in of])
            for token, of in zip(x, chosen, strict=True)
        ]
    )


def one_expert(layer, x, expert):
    gate, up = (half @ x for half in layer.gate_up[expert].chunk(2))
    return layer.down[expert] @ (gate / (1 + torch.exp(-gate)) * up)


@pytest.mark.parametrize("name", ["dense", "dense, tied", "experts", "experts, one dense layer"])
def test_gradients_equal_those_of_transformers(name):
    hf = hf_random(name)
    ours, ids = from_transformers(hf), tokens()
    for logits in (ours(ids), hf(ids).logits):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    for parameter in hf.parameters():
        parameter.data = parameter.grad
    theirs = dict(from_transformers(hf).named_parameters())
    for path, parameter in ours.named_parameters():
        expected = theirs[path].detach()
        assert expected.abs().max() > 0, path
        assert (parameter.grad - expected).abs().max() < 1e-5 * expected.abs().max(), path


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("name", ["dense", "dense, yarn", "experts", "experts, one dense layer"])
def test_greedy_generation_gives_the_tokens_of_transformers(name, padding):
    hf = hf_random(name)
    ids, mask = tokens(length=12), torch.ones(2, 12, dtype=torch.bool)
    mask[0, :padding] = False
    expected = hf.generate(
        ids, attention_mask=mask.long(), max_new_tokens=24, min_new_tokens=24, do_sample=False
    )[:, 12:]

    model = from_transformers(hf)
    cache, new, step_mask, generated = model.new_cache(batch=2, capacity=4), ids, mask, []
    with torch.no_grad():
        for _ in range(24):
            logits = model(new, mask=step_mask, cache=cache, last_only=True)
            new, step_mask = logits[:, -1].argmax(-1, keepdim=True), None
            generated.append(new)
    assert torch.equal(torch.cat(generated, dim=1), expected)
    assert positions(mask)[0, -1] == 11 - padding


def test_last_only_gives_the_logits_of_the_last_position(model):
    ids = tokens()
    with torch.no_grad():
        assert gap(model(ids, last_only=True), model(ids)[:, -1:]) < 1e-6


@pytest.mark.parametrize("explicit", [False, True])
def test_texts_packed_into_one_row_have_the_logits_they_have_alone(model, explicit):
    texts = [tokens(1, n, seed=n) for n in (5, 1, 9)]
    row = torch.cat(texts, dim=1)
    segments = torch.repeat_interleave(torch.arange(3), torch.tensor([5, 1, 9]))[None]
    tap = Keep(["blocks.0.attn.hook_pattern"]) if explicit else NO_TAP
    with torch.no_grad():
        packed = model(row, segments=segments, tap=tap)
        alone = torch.cat([model(text) for text in texts], dim=1)
    torch.testing.assert_close(packed, alone, atol=1e-5, rtol=1e-5)


def test_gradients_through_packed_texts_are_those_of_the_texts_alone(model):
    texts = [tokens(1, n, seed=n) for n in (5, 1, 9)]
    segments = torch.repeat_interleave(torch.arange(3), torch.tensor([5, 1, 9]))[None]
    weight = model.blocks[0].attn.k.weight
    packed = model(torch.cat(texts, dim=1), segments=segments).square().sum()
    alone = sum(model(text).square().sum() for text in texts)
    (of_packed,), (of_alone,) = (torch.autograd.grad(loss, weight) for loss in (packed, alone))
    torch.testing.assert_close(of_packed, of_alone, atol=1e-3, rtol=1e-4)


def test_a_segment_may_come_back_after_another_one(model):
    ids, segments = tokens(1, 6, seed=1), torch.tensor([[0, 0, 1, 1, 0, 0]])
    with torch.no_grad():
        logits = model(ids, segments=segments)
        # A text whose tokens are all of segment 1 is not seen by the others.
        other = ids.clone()
        other[0, 2:4] = (other[0, 2:4] + 1) % 7
        # Experts compute the tokens that they get together, so that rounding may differ.
        assert gap(model(other, segments=segments)[0, 4:], logits[0, 4:]) < 1e-6
        other = ids.clone()
        other[0, :2] = (other[0, :2] + 1) % 7
        assert gap(model(other, segments=segments)[0, 4:], logits[0, 4:]) > 1e-4


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_pass_leaves_no_hooks_or_state_behind(model, error):
    ids = tokens()
    with torch.no_grad():
        before = model(ids)

        def fail(value, name):
            raise error

        with pytest.raises(error):
            model(ids, tap=Edits({"blocks.1.hook_resid_mid": fail}, model.config))
        assert torch.equal(model(ids), before)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_pass_on_the_meta_device_gives_shapes():
    config = from_transformers(hf_random("dense, tied")).config
    model = Qwen3(config, device="meta")
    logits = model(tokens().to("meta"))
    assert logits.shape == (2, 20, 97) and logits.device.type == "meta"


def test_random_weights_depend_on_the_seed_and_norms_start_at_one():
    config = from_transformers(hf_random("experts, tied")).config
    drawn = []
    for seed in (3, 3, 4):
        model = Qwen3(config)
        model.init_weights(torch.Generator().manual_seed(seed), std=0.1)
        drawn.append(model)
    again = dict(drawn[1].named_parameters())
    for path, parameter in drawn[0].named_parameters():
        assert torch.equal(parameter, again[path])
    assert drawn[0].blocks[0].mlp.down.std().item() == pytest.approx(0.1, rel=0.05)
    assert not torch.equal(drawn[0].embed.weight, drawn[2].embed.weight)
    assert (drawn[0].blocks[1].attn.q_norm.weight == 1).all()


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(CASES))
def test_every_activation_on_a_gpu_equals_that_of_transformers(name):
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    hf, ids = hf_random(name), tokens()
    theirs = hf_activations(hf, ids)
    model = from_transformers(hf).cuda()
    ours = our_activations(model, ids.cuda())
    keys = set(theirs) - {hook for hook in theirs if hook.endswith("hook_expert_indices")}
    gaps = {hook: gap(ours[hook].cpu(), theirs[hook]) for hook in keys}
    assert {hook: size for hook, size in gaps.items() if size > 1e-4} == {}
    # Without a tap, and with padding, other kernels run.
    padded = torch.ones_like(ids, dtype=torch.bool)
    padded[0, :5] = False
    with torch.no_grad():
        assert gap(model(ids.cuda()).cpu(), theirs["hook_unembed"]) < 1e-4
        there = model(ids.cuda(), mask=padded.cuda()).cpu()
        assert gap(there[padded], model.cpu()(ids, mask=padded)[padded]) < 1e-4
