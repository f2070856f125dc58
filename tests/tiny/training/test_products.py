"""Matrix products in bfloat16: close to float32, and only where they should be."""

import torch
import torch.nn.functional as F

from qwen3lab.tiny.training.products import MIN_TOKENS, Bfloat16Products


def operands(n_tokens, n_rows):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n_tokens, 16, generator=draw, requires_grad=True)
    weight = torch.randn(n_rows, 16, generator=draw, requires_grad=True)
    return x, weight, torch.randn(n_tokens, n_rows, generator=draw)


def both(n_tokens, n_rows):
    """Output and gradients in float32, and with the products in bfloat16."""
    x, weight, direction = operands(n_tokens, n_rows)
    found = []
    for rounds in (False, True):
        if rounds:
            with Bfloat16Products():
                out = F.linear(x, weight)
        else:
            out = F.linear(x, weight)
        found.append([out, *torch.autograd.grad((out * direction).sum(), (x, weight))])
    return found


def relative_gap(one, other):
    return float(((one - other).norm() / one.norm()).detach())


def test_products_and_gradients_are_those_of_float32_but_for_rounding():
    for exact, rounded in zip(*both(MIN_TOKENS, 8), strict=True):
        assert rounded.dtype == torch.float32
        # bfloat16 has 8 significant bits: relative errors of at most 2**-8 in each factor.
        assert 1e-4 < relative_gap(exact, rounded) < 2**-7


def test_the_forward_product_with_the_unembedding_is_exact():
    exact, rounded = both(MIN_TOKENS, 1536)
    assert torch.equal(exact[0], rounded[0])
    assert 1e-4 < relative_gap(exact[1], rounded[1]) < 2**-7


def test_few_tokens_are_multiplied_in_float32():
    exact, rounded = both(MIN_TOKENS - 1, 8)
    assert all(torch.equal(*each) for each in zip(exact, rounded, strict=True))
