"""What models without unembedding give: the final stream at a text's last token, and its scores.

Source: the model card of Qwen3-Embedding (`last_token_pool`); transformers,
`GenericForSequenceClassification`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.device.grad_mode import without_grad
from qwen3lab.display.plain import one_line
from qwen3lab.hooks.taps import Keep
from qwen3lab.model.batching import pad_left
from qwen3lab.model.transformer import Qwen3

NORMALISED = "ln_final.hook_normalized"


@dataclass(frozen=True, eq=False)
class Classification:
    """The scores of a classifier for one prompt.

    Attributes:
        labels: of the model's config.
        scores: of each label, before any softmax or sigmoid, float32.
    """

    labels: tuple[str, ...]
    scores: Float[Tensor, " label"]

    def __repr__(self) -> str:
        pairs = zip(self.labels, self.scores.tolist(), strict=True)
        shown = ", ".join(f"{one_line(label, width=60)} {score:.3f}" for label, score in pairs)
        return f"Classification({shown})"


@without_grad
def last_states(
    model: Qwen3, rows: Sequence[Sequence[int]], *, at_once: int
) -> Float[Tensor, "row d_model"]:
    """The final stream, normalised and weighted, at the last token of each row, float32.

    Args:
        model: to run.
        rows: token ids.
        at_once: rows in a pass.
    """
    states = [torch.empty(0, model.config.d_model)]
    for first in range(0, len(rows), max(at_once, 1)):
        ids, mask = pad_left(rows[first : first + max(at_once, 1)], model.device)
        kept = Keep([NORMALISED])
        model(ids, mask=None if bool(mask.all()) else mask, tap=kept, last_only=True)
        final = model.ln_final.weight * kept.kept[NORMALISED][:, -1]
        states.append(final.float().cpu())
    return torch.cat(states)


@without_grad
def classification(model: Qwen3, ids: Sequence[int]) -> Classification:
    """The scores of a classifier at the last token of a row."""
    state = last_states(model, [ids], at_once=1).to(model.device, model.dtype)
    return Classification(model.config.labels, model.score(state)[0].float().cpu())
