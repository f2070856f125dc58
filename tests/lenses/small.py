"""Small random labs, and one whose later blocks are linear: there the truth is a closed form."""

import torch
from torch import nn

from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from tests.reference import NO_EXPERTS, small_config

IDS = [3, 14, 15, 9, 2, 6]


def small_lab(tokenizer, *, experts=True, n_vocab=1536):
    """A random model whose predictions differ between layers and tokens."""
    config = small_config(d_vocab=n_vocab, **({} if experts else NO_EXPERTS))
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4) if parameter.ndim > 1 else parameter.add_(0.3)
    return Lab(model.eval(), tokenizer, "small")


class LinearBlock(nn.Module):
    """Replaces the residual stream of each token by an affine function of it."""

    def __init__(self, layer, matrix, bias):
        super().__init__()
        self.name, self.layer = f"blocks.{layer}", layer
        self.matrix, self.bias = nn.Parameter(matrix), nn.Parameter(bias)

    def forward(self, resid, positions, tap):
        resid = tap(f"{self.name}.hook_resid_pre", resid)
        return tap(f"{self.name}.hook_resid_post", resid @ self.matrix.T + self.bias)


def linear_lab(tokenizer, *, bias=1.0):
    """A dense model whose blocks 1 and 2 are affine; returns the lab and their parameters."""
    lab = small_lab(tokenizer, experts=False)
    d_model = lab.config.d_model
    generator = torch.Generator().manual_seed(5)
    planted = []
    for layer in (1, 2):
        noise = torch.randn(d_model, d_model, generator=generator) / d_model**0.5
        offset = bias * torch.randn(d_model, generator=generator)
        planted.append((torch.eye(d_model) + 0.7 * noise, offset))
        lab.model.blocks[layer] = LinearBlock(layer, *planted[-1])
    return lab, planted
