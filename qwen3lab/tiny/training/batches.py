"""Training batches: random documents, packed into rows.

A batch depends only on the recipe's seed and the step.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.tiny.training.recipes import Recipe
from qwen3lab.tiny.world.documents import Document, Writer

WIDTH_MULTIPLE = 128
"""Rows are padded to a multiple of so many tokens: kernels are compiled once per shape."""


@dataclass(frozen=True)
class Batch:
    """Documents packed into rows. Attention is limited to tokens of the same document.

    Attributes:
        token_ids: token ids; 0 in padding.
        weights: loss weight of each token as a target; 0 in padding.
        kinds: kind of each token's document, as an index into `Packer.kinds`.
        segments: index of each token's document in its row; -1 in padding.
    """

    token_ids: Int[Tensor, "row pos"]
    weights: Float[Tensor, "row pos"]
    kinds: Int[Tensor, "row pos"]
    segments: Int[Tensor, "row pos"]


class Packer:
    """Draws the documents of a step and packs them into rows, without truncation.

    `kinds` collects the names of the documents' kinds; a batch contains indices into it.

    Args:
        writer: writes the documents.
        recipe: of the training.
        later: write the documents of the later courses.
    """

    def __init__(self, writer: Writer, recipe: Recipe, *, later: Sequence[Writer] = ()) -> None:
        self.writers, self.recipe = [writer, *later], recipe
        self.kinds: list[str] = []

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        rng = random.Random(f"{self.recipe.seed}:{step}")
        stage = step / self.recipe.opening if self.recipe.opening else math.inf
        writer = self.writers[sum(step >= course.begin for course in self.recipe.later)]
        documents: list[Document] = []
        while sum(len(d.token_ids) for d in documents) < self.recipe.batch_tokens:
            documents.append(writer.write(rng, stage=stage))
        rows = packed(documents, self.recipe.row_tokens)
        width = max(sum(len(d.token_ids) for d in row) for row in rows)
        shape = (len(rows), math.ceil(width / WIDTH_MULTIPLE) * WIDTH_MULTIPLE)
        ids, kinds = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        weights, segments = torch.zeros(shape), torch.full(shape, -1)
        for row, in_row in enumerate(rows):
            begin = 0
            for number, document in enumerate(in_row):
                end = begin + len(document.token_ids)
                ids[row, begin:end] = torch.tensor(document.token_ids)
                weights[row, begin:end] = torch.tensor(document.weights)
                # The first token of a document has no context to predict it from.
                weights[row, begin] = 0.0
                kinds[row, begin:end] = self._kind_index(document.kind)
                segments[row, begin:end] = number
                begin = end
        return Batch(ids, weights, kinds, segments)

    def _kind_index(self, kind: str) -> int:
        if kind not in self.kinds:
            self.kinds.append(kind)
        return self.kinds.index(kind)


def packed(documents: Sequence[Document], row_tokens: int) -> list[list[Document]]:
    """Documents packed into rows of `row_tokens` tokens by first-fit decreasing.

    A document that is longer than a row gets a row of its own.
    """
    rows: list[list[Document]] = []
    free: list[int] = []
    for document in sorted(documents, key=lambda d: len(d.token_ids), reverse=True):
        n = len(document.token_ids)
        row = next((index for index, tokens in enumerate(free) if tokens >= n), len(rows))
        if row == len(rows):
            rows.append([])
            free.append(row_tokens)
        rows[row].append(document)
        free[row] -= n
    return rows
