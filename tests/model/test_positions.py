import math

import pytest
import torch
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from qwen3lab.config.qwen3_config import Qwen3Config, Rope
from qwen3lab.hooks.points import hook_names
from qwen3lab.loading import from_transformers
from qwen3lab.model.positions import Positions, inverse_wavelengths
from tests.reference import gap, hf_random, our_activations, tokens

CONFIG = Qwen3Config(
    d_model=8, n_layers=1, n_heads=1, n_kv_heads=1, d_head=8, d_mlp=8, d_vocab=50, rope=Rope(1e4)
)
QUERY_BY_KEY = ("hook_attn_scores", "hook_pattern")


def positions(mask=None, *, length=None, config=CONFIG, cache=None):
    ids = torch.ones(1 if mask is None else len(mask), length or mask.shape[1], dtype=torch.long)
    return Positions.of(ids, mask, cache, config)


def test_plain_wavelengths_follow_the_formula():
    inverse = inverse_wavelengths(Rope(theta=100.0), 8)
    torch.testing.assert_close(inverse, torch.tensor([1.0, 100**-0.25, 0.1, 100**-0.75]))


@pytest.mark.parametrize("factor", [1.5, 4.0, 32.0])
@pytest.mark.parametrize("original", [64, 4096, 32_768])
@pytest.mark.parametrize(
    "extra",
    [{}, {"beta_fast": 16.0, "beta_slow": 2.0}, {"beta_fast": 2.0, "beta_slow": 32.0}],
    ids=["defaults", "betas", "betas the wrong way round"],
)
def test_yarn_wavelengths_and_scale_equal_those_of_transformers(factor, original, extra):
    scaling = {
        "rope_type": "yarn",
        "rope_theta": 1e6,
        "factor": factor,
        "original_max_position_embeddings": original,
        **extra,
    }
    theirs = AutoConfig.for_model(
        "qwen3",
        head_dim=128,
        max_position_embeddings=int(original * factor),
        rope_parameters=dict(scaling),
    )
    expected, scale = ROPE_INIT_FUNCTIONS["yarn"](theirs)
    rope = Rope(theta=1e6, factor=factor, original_n_ctx=original, **extra)
    torch.testing.assert_close(inverse_wavelengths(rope, 128), expected, rtol=2e-6, atol=0)
    assert rope.scale == pytest.approx(scale)


def test_yarn_leaves_fast_dimensions_alone_and_divides_slow_ones_by_the_factor():
    plain = inverse_wavelengths(Rope(1e6), 128)
    yarn = inverse_wavelengths(Rope(1e6, factor=4.0, original_n_ctx=32_768), 128)
    turns = 32_768 * plain / (2 * math.pi)
    assert torch.equal(yarn[turns > 40], plain[turns > 40])
    torch.testing.assert_close(yarn[turns < 0.8], plain[turns < 0.8] / 4)
    between = (turns < 16) & (turns > 2)
    assert ((yarn < plain) & (yarn > plain / 4))[between].all()


def test_a_rotation_multiplies_each_pair_by_a_unit_complex_number():
    x = torch.randn(1, 6, 2, 8, generator=torch.Generator().manual_seed(0))
    rotated = positions(length=6).rotate(x)
    angles = torch.arange(6)[:, None] * inverse_wavelengths(CONFIG.rope, 8)
    unit = torch.polar(torch.ones_like(angles), angles)[None, :, None]
    expected = torch.complex(x[..., :4], x[..., 4:]) * unit
    torch.testing.assert_close(rotated, torch.cat([expected.real, expected.imag], dim=-1))


def test_the_product_of_rotated_vectors_depends_only_on_their_distance():
    generator = torch.Generator().manual_seed(1)
    q, k = torch.randn(8, generator=generator), torch.randn(8, generator=generator)
    rotate = positions(length=10).rotate
    q, k = (rotate(v.expand(1, 10, 1, 8))[0, :, 0] for v in (q, k))
    products = q @ k.T
    for distance in range(-5, 6):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))


def test_yarn_scales_queries_and_keys_alike():
    rope = Rope(1e4, factor=4.0, original_n_ctx=64)
    config = Qwen3Config(**(vars(CONFIG) | {"rope": rope}))
    x = torch.randn(1, 5, 1, 8, generator=torch.Generator().manual_seed(0))
    rotated = positions(length=5, config=config).rotate(x)
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1) * (0.1 * math.log(4) + 1))


def test_padding_does_not_count_as_a_position():
    mask = torch.tensor([[False, False, True, True, True], [True] * 5])
    padded, plain = positions(mask), positions(length=5)
    torch.testing.assert_close(padded.cos[0, 2:], plain.cos[0, :3])
    torch.testing.assert_close(padded.cos[1], plain.cos[0])


def test_a_query_sees_real_tokens_up_to_itself_and_a_padded_one_only_itself():
    allowed = positions(torch.tensor([[False, True, True]])).attention_mask()
    assert allowed.tolist() == [
        [[[True, False, False], [False, True, False], [False, True, True]]],
    ]


def test_a_pass_without_padding_and_past_needs_no_mask():
    assert positions(length=4).needs_no_mask
    assert positions(torch.ones(2, 4, dtype=torch.bool)).needs_no_mask
    assert not positions(torch.tensor([[False, True]])).needs_no_mask


@pytest.mark.parametrize("name", ["dense", "dense, yarn", "experts", "experts, one dense layer"])
def test_a_prompt_in_a_left_padded_batch_has_the_activations_it_has_alone(name):
    model = from_transformers(hf_random(name))
    ids, lengths = tokens(batch=3, length=14), (14, 9, 1)
    mask = torch.stack([torch.arange(14) >= 14 - length for length in lengths])
    batched = our_activations(model, ids, mask)
    for row, length in enumerate(lengths):
        alone = our_activations(model, ids[row : row + 1, 14 - length :])
        for hook in hook_names(model.config):
            actual, expected = batched[hook][row, ..., :], alone[hook][0]
            if hook.endswith(QUERY_BY_KEY):
                padded = actual[:, 14 - length :, : 14 - length]
                assert (padded == (0 if "pattern" in hook else -torch.inf)).all()
                visible = torch.ones(length, length).tril().bool()
                actual = actual[:, 14 - length :, 14 - length :]
                assert gap(actual[:, visible], expected[:, visible]) < 1e-5, hook
            elif hook.endswith("hook_expert_indices"):
                assert torch.equal(actual[14 - length :], expected)
            else:
                assert gap(actual[14 - length :], expected) < 1e-5, hook


@pytest.mark.parametrize("name", ["dense", "experts"])
def test_token_ids_in_the_padding_have_no_effect(name):
    model = from_transformers(hf_random(name))
    ids, mask = tokens(length=10), torch.ones(2, 10, dtype=torch.bool)
    mask[0, :4] = False
    other = ids.clone()
    other[0, :4] = 50
    with torch.no_grad():
        first, second = model(ids, mask=mask), model(other, mask=mask)
    assert gap(first[mask], second[mask]) < 1e-6
    assert torch.isfinite(first).all()


@pytest.mark.parametrize(
    ("tokens", "mask", "message"),
    [
        (
            [[1, 2]],
            [[True]],
            r"mask has the shape \(1, 1\): expected that of the tokens, \(1, 2\)",
        ),
        ([[1, 2], [3, 4]], [[True, True]], r"the mask has the shape \(1, 2\)"),
        ([[1, 2]], [[1.0, 1.0]], "the mask has the dtype torch.float32: expected bool"),
        ([1, 2], None, r"the tokens have the shape \(2,\)"),
        ([[]], None, "at least one token"),
        ([[1.0]], None, "the dtype torch.float32: expected integers"),
    ],
)
def test_a_mask_or_tokens_that_would_be_stretched_are_refused(tokens, mask, message):
    of = getattr(Positions.of, "__wrapped__", Positions.of.__func__)
    mask = None if mask is None else torch.tensor(mask)
    with pytest.raises(ValueError, match=message):
        getattr(of, "__wrapped__", of)(Positions, torch.tensor(tokens), mask, None, None)
