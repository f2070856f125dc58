"""Logistic regression of labels on activations by scikit-learn, measured on held-out groups."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.translation import tr

MAX_ITERATIONS = 3000
SPARSE_TOLERANCE = 1e-3
"""Of the solver for sparse probes, which converges slowly."""


@dataclass(frozen=True)
class Solver:
    """Settings of the logistic regressions.

    Attributes:
        sparse: penalise the absolute values of the weights (L1), not their squares.
        strength: inverse of the penalty; scikit-learn's `C`.
        seed: of the solver of sparse probes.
    """

    sparse: bool
    strength: float
    seed: int

    def model(self) -> Any:
        """A logistic regression that is not fitted yet.

        Raises:
            ImportError: scikit-learn is not installed.
        """
        linear_model = _sklearn()
        options: dict[str, Any] = {"C": self.strength, "max_iter": MAX_ITERATIONS}
        if self.sparse:
            major, minor = (int(part) for part in version("scikit-learn").split(".")[:2])
            options |= {"l1_ratio": 1.0} if (major, minor) >= (1, 8) else {"penalty": "l1"}
            options |= {"solver": "saga", "tol": SPARSE_TOLERANCE, "random_state": self.seed}
        return linear_model.LogisticRegression(**options)


def fitted(
    solver: Solver, x: Float[Tensor, "token feature"], y: Int[Tensor, " token"], n_labels: int
) -> tuple[Float[Tensor, "label feature"], Float[Tensor, " label"]]:
    """Weights and biases on the activations themselves; the logits of the labels are `x @ w.T + b`.

    The features are standardised for the fit. A label that `y` does not have gets minus infinity.
    """
    centre, spread = x.double().mean(dim=0), x.double().std(dim=0, correction=0)
    spread = torch.where(spread > 0, spread, 1.0)
    weights = torch.zeros(n_labels, x.shape[1], dtype=torch.float64)
    bias = torch.full((n_labels,), -torch.inf, dtype=torch.float64)
    known = y.unique()
    if len(known) == 1:
        bias[known] = 0
        return weights, bias
    model = solver.model().fit(((x.double() - centre) / spread).numpy(), y.numpy())
    found, constant = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
    if len(known) == 2:  # One row, the logit of the second label over the first.
        found, constant = torch.cat([-found, found]) / 2, torch.cat([-constant, constant]) / 2
    weights[known] = found / spread
    bias[known] = constant - weights[known] @ centre
    return weights, bias


def held_out_hits(
    solver: Solver,
    x: Float[Tensor, "token feature"],
    y: Int[Tensor, " token"],
    fold: Int[Tensor, " token"],
) -> int:
    """Number of tokens whose label is predicted by a probe that was fitted without their fold."""
    n_labels, hits = int(y.max()) + 1, 0
    for number in fold.unique().tolist():
        out = fold == number
        weights, bias = fitted(solver, x[~out], y[~out], n_labels)
        predicted = (x[out].double() @ weights.T + bias).argmax(dim=1)
        hits += int((predicted == y[out]).sum())
    return hits


def folds(sizes: Sequence[int], n: int, seed: int) -> list[int]:
    """A fold for each group, at random, such that folds have similar numbers of tokens.

    Args:
        sizes: number of tokens of each group.
        n: number of folds.
        seed: of the order in which groups of equal size are placed.
    """
    order = list(range(len(sizes)))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda group: -sizes[group])
    filled, chosen = [0] * n, [0] * len(sizes)
    for group in order:
        chosen[group] = int(np.argmin(filled))
        filled[chosen[group]] += max(sizes[group], 1)
    return chosen


def _sklearn() -> Any:
    try:
        return import_module("sklearn.linear_model")
    except ImportError as error:
        raise ImportError(
            tr(
                "probes need scikit-learn, which is not installed: run pip install "
                "'qwen3lab[probes]'"
            )
        ) from error
