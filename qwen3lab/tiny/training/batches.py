"""What is read in a step of a training: documents, drawn and packed into rows.

A batch is a pure function of a recipe's seed and the step.
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


@dataclass(frozen=True)
class Batch:
    """Documents packed into rows, one after another.

    A document stands alone, as it will when the model is used: none sees another.

    Attributes:
        token_ids: 0 where a row is padded.
        weights: how much each token counts as something to predict.
        kinds: the kind of each token's document, by number.
        segments: the number of each token's document in its row; -1 where it is padded.
    """

    token_ids: Int[Tensor, "row pos"]
    weights: Float[Tensor, "row pos"]
    kinds: Int[Tensor, "row pos"]
    segments: Int[Tensor, "row pos"]


class Packer:
    """Draws the documents of a step and packs them into rows; nothing is cut.

    `kinds` collects the names of the documents' kinds; a batch refers to them by number.
    """

    def __init__(self, writer: Writer, recipe: Recipe, *, later: Writer | None = None) -> None:
        self.writer, self.recipe, self.later = writer, recipe, later
        self.kinds: list[str] = []

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        rng = random.Random(f"{self.recipe.seed}:{step}")
        stage = step / self.recipe.opening if self.recipe.opening else math.inf
        again = self.recipe.later and step >= self.recipe.later.begin
        writer = self.later if self.later and again else self.writer
        documents: list[Document] = []
        while sum(len(d.token_ids) for d in documents) < self.recipe.batch_tokens:
            documents.append(writer.write(rng, stage=stage))
        rows = packed(documents, self.recipe.row_tokens)
        shape = (len(rows), max(sum(len(d.token_ids) for d in row) for row in rows))
        ids, kinds = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        weights, segments = torch.zeros(shape), torch.full(shape, -1)
        for row, within in enumerate(rows):
            at = 0
            for number, document in enumerate(within):
                end = at + len(document.token_ids)
                ids[row, at:end] = torch.tensor(document.token_ids)
                weights[row, at:end] = torch.tensor(document.weights)
                # Nothing foretells how a document begins.
                weights[row, at] = 0.0
                kinds[row, at:end] = self._number(document.kind)
                segments[row, at:end] = number
                at = end
        return Batch(ids, weights, kinds, segments)

    def _number(self, kind: str) -> int:
        if kind not in self.kinds:
            self.kinds.append(kind)
        return self.kinds.index(kind)


def packed(documents: Sequence[Document], row_tokens: int) -> list[list[Document]]:
    """Documents in rows of so many tokens: the longest first, each where it first fits.

    One that is longer than a row has a row of its own.
    """
    rows: list[list[Document]] = []
    room: list[int] = []
    for document in sorted(documents, key=lambda d: len(d.token_ids), reverse=True):
        needed = len(document.token_ids)
        row = next((place for place, left in enumerate(room) if left >= needed), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(row_tokens)
        rows[row].append(document)
        room[row] -= needed
    return rows
