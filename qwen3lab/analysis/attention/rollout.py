"""Attention rollout: how much of each token is mixed into a position over all layers."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.attention.statistics import BLOCK
from qwen3lab.recording.recording import Recording


def rollout(
    recording: Recording, queries: Sequence[int], *, block: int = BLOCK
) -> Float[Tensor, "query key"]:
    """How much of each token is mixed into these positions over all layers.

    Heads are averaged, and the residual stream counts for half: in every layer
    `0.5 * pattern + 0.5 * identity` (attention rollout, Abnar and Zuidema, arXiv 2005.00928,
    section 3). It uses the patterns only, not the values that they move. The product is computed
    from the last layer down, for these queries only, so that no token-by-token matrix is kept.

    Args:
        recording: with the attention of every layer.
        queries: positions.
        block: queries at a time.

    Raises:
        RecordingError: attention was not recorded in every layer.
        ValueError: no position, or one outside the recording.
    """
    n = len(recording)
    if not queries or not all(-n <= query < n for query in queries):
        raise ValueError(f"queries are {list(queries)}: expected positions from 0 to {n - 1}")
    mixed = _one_hot(list(queries), n)
    for layer in range(recording.config.n_layers - 1, -1, -1):
        passed = torch.zeros_like(mixed)
        for start, pattern in recording.attention.blocks(layer, size=block):
            rows = mixed[:, start : start + pattern.shape[1]]
            passed += rows @ pattern.mean(dim=0)
        mixed = 0.5 * passed + 0.5 * mixed
    return mixed


def _one_hot(places: Sequence[int], n: int) -> Float[Tensor, "query key"]:
    rows = torch.zeros(len(places), n)
    rows[torch.arange(len(places)), torch.tensor(places)] = 1.0
    return rows
