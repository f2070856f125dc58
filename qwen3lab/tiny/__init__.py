"""The embedded models: their task families, tokenizer, training and evaluation."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3lab.checkpoints.embedded import embedded_revisions as revisions, is_embedded
from qwen3lab.tiny.experts import with_experts
from qwen3lab.tiny.world.chains import chains
from qwen3lab.tiny.world.corpus_rows import corpus_rows
from qwen3lab.tiny.world.families import FAMILIES, Family, problems
from qwen3lab.tiny.world.labelled_texts import LabelledText, texts
from qwen3lab.tiny.world.outside import says_outside
from qwen3lab.tiny.world.problems import Piece, Problem, TokenLabel, label_tokens, split_of
from qwen3lab.tiny.world.truth import mark, truth
from qwen3lab.translation import tr

if TYPE_CHECKING:
    from qwen3lab.tiny.evaluation.evaluate import Evaluation

__all__ = [
    "FAMILIES",
    "Family",
    "LabelledText",
    "Piece",
    "Problem",
    "TokenLabel",
    "chains",
    "corpus_rows",
    "is_embedded",
    "label_tokens",
    "mark",
    "problems",
    "read_card",
    "revisions",
    "says_outside",
    "split_of",
    "texts",
    "truth",
    "with_experts",
]


def read_card(name: str | Path, *, revision: str | None = None) -> "Evaluation":
    """Read the measurements in a model's card.

    Args:
        name: an embedded model, or a folder with a `card.json`.
        revision: an earlier edition of an embedded model, such as "v1".

    Raises:
        CheckpointError: the model does not exist, or it has no card.
    """
    from qwen3lab.tiny.evaluation import card  # A late import: it loads transformers.

    return card.read_card(name, revision=revision)


def train(
    name: str,
    *,
    seed: int | None = None,
    minutes: float | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Path:
    """Train an embedded model from scratch, measure it, and write it in Hugging Face format.

    The same call resumes an interrupted run.

    Args:
        name: "tiny-moe" or "tiny-dense".
        seed: of the initial weights and the documents; None for the seed of the model that ships.
        minutes: time limit; the learning rate decays to its minimum within this time.
        out: folder of the run; `runs/<name>-seed<seed>` if None.
        device: device of the training.
        progress: show progress bars.

    Returns:
        The folder of the finished model, inside the folder of the run.

    Raises:
        ValueError: the name is unknown, or the folder contains another run.
    """
    from qwen3lab.tiny.pipeline import train_model
    from qwen3lab.tiny.training.recipes import RECIPES

    if name not in RECIPES:
        raise ValueError(
            tr(
                "there is no embedded model {name!r}: choose from {recipes}",
                name=name,
                recipes=", ".join(RECIPES),
            )
        )
    recipe = RECIPES[name] if seed is None else replace(RECIPES[name], seed=seed)
    folder = Path(out) if out is not None else Path("runs") / f"{name}-seed{recipe.seed}"
    return train_model(recipe, minutes=minutes, folder=folder, device=device, progress=progress)
