"""Optimisers and learning-rate schedule of a training."""

import math

import torch

from qwen3lab.model.transformer import Qwen3
from qwen3lab.tiny.training.muon import Muon
from qwen3lab.tiny.training.products import has_fast_bfloat16
from qwen3lab.tiny.training.recipes import Recipe


def optimizers(model: Qwen3, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW for all parameters; with `recipe.muon`, Muon for the matrices in the layers."""
    muon_parameters = [
        parameter
        for name, parameter in model.blocks.named_parameters()
        if recipe.muon and parameter.ndim > 1 and "router" not in name
    ]
    others = [p for p in model.parameters() if all(p is not other for other in muon_parameters)]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in others if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True)
    ]
    if muon_parameters:
        muon = Muon(
            muon_parameters,
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            dtype=torch.bfloat16 if _is_fast_with_bfloat16(model.device) else torch.float32,
        )
        optimisers.append(muon)
    return optimisers


def rounds_products(recipe: Recipe, device: torch.device) -> bool:
    """Whether a training with this recipe multiplies in bfloat16 on this machine."""
    return recipe.bfloat16 and _is_fast_with_bfloat16(device)


def _is_fast_with_bfloat16(device: torch.device) -> bool:
    return device.type == "cpu" and has_fast_bfloat16()


def learning_rate(recipe: Recipe, step: int, spent: float = 0.0) -> float:
    """The learning rate of a step: linear warm-up, then cosine decay to 2% of the maximum.

    Args:
        recipe: of the training; each later course has its own warm-up and decay.
        step: step of the optimiser.
        spent: fraction of the time limit that has passed, from 0 to 1; 0 without a limit. The
            decay follows this fraction or the steps, whichever is further.
    """
    first, last, highest, warmup = 0, recipe.steps, recipe.learning_rate, recipe.warmup
    for later in recipe.later:
        if step < later.begin:
            last = later.begin
            break
        first, highest, warmup = later.begin, later.learning_rate, later.warmup
    progress = min(1.0, max((step - first) / (last - first), spent))
    warm = min(1.0, (step - first + 1) / warmup)
    return highest * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
