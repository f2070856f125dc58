"""Attention rollout: the share of each token in a position's stream, over all layers."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.attention.statistics import BLOCK
from qwen3lab.arguments import Count, checked
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr


@checked
def rollout(
    recording: Recording, queries: Sequence[int], *, block: Count = BLOCK
) -> Float[Tensor, "query key"]:
    """The share of each token in these positions, over all layers.

    Heads are averaged and the residual stream has weight one half: in every layer
    `0.5 * pattern + 0.5 * identity` (attention rollout, Abnar and Zuidema, arXiv 2005.00928,
    section 3). It uses patterns only, not values. The product is computed from the last layer
    down, for these queries only, so no token-by-token matrix is stored.

    Args:
        recording: with the attention of every layer.
        queries: positions.
        block: queries per block.

    Raises:
        RecordingError: attention was not recorded in every layer.
        ValueError: no position, or one outside the recording.
    """
    n = len(recording)
    if not queries or not all(-n <= query < n for query in queries):
        raise ValueError(
            tr(
                "queries are {queries}: expected positions from 0 to {last}",
                queries=list(queries),
                last=n - 1,
            )
        )
    shares = _one_hot(list(queries), n)
    for layer in range(recording.config.n_layers - 1, -1, -1):
        attended = torch.zeros_like(shares)
        for start, pattern in recording.attention.blocks(layer, size=block):
            rows = shares[:, start : start + pattern.shape[1]]
            attended += rows @ pattern.mean(dim=0)
        shares = 0.5 * attended + 0.5 * shares
    return shares


def _one_hot(places: Sequence[int], n: int) -> Float[Tensor, "query key"]:
    rows = torch.zeros(len(places), n)
    rows[torch.arange(len(places)), torch.tensor(places)] = 1.0
    return rows
