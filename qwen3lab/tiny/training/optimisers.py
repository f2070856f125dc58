"""By what a training's weights move, and how fast."""

import math

import torch

from qwen3lab.model.transformer import Qwen3
from qwen3lab.tiny.training.muon import Muon
from qwen3lab.tiny.training.recipes import Recipe


def optimizers(model: Qwen3, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices within the layers where the recipe says so."""
    turned = [
        parameter
        for name, parameter in model.blocks.named_parameters()
        if recipe.muon and parameter.ndim > 1 and "router" not in name
    ]
    others = [p for p in model.parameters() if all(p is not other for other in turned)]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in others if p.ndim == 1], "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True)
    ]
    if turned:
        found.append(Muon(turned, recipe.learning_rate, weight_decay=recipe.weight_decay))
    return found


def learning_rate(recipe: Recipe, step: int, spent: float = 0.0) -> float:
    """The learning rate of a step: a warm-up, and then a cosine down to a fiftieth.

    Args:
        recipe: of the training; a second course has a rise and a fall of its own.
        step: of the optimiser.
        spent: share of the minutes that are over, where the clock decides.
    """
    later = recipe.later
    first, last, highest, warmup = 0, recipe.steps, recipe.learning_rate, recipe.warmup
    if later and step >= later.begin:
        first, highest, warmup = later.begin, later.learning_rate, later.warmup
    elif later:
        last = later.begin
    progress = min(1.0, max((step - first) / (last - first), spent))
    warm = min(1.0, (step - first + 1) / warmup)
    return highest * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
