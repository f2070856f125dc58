"""The models that ship with the package: their world, their tokenizer, their training."""

import random
from pathlib import Path

from qwen3lab.tiny.families import FAMILIES, Family
from qwen3lab.tiny.problems import Piece, Problem, Split, TokenLabel, label_tokens, split_of
from qwen3lab.tiny.texts import LabelledText, texts

__all__ = [
    "FAMILIES",
    "Family",
    "LabelledText",
    "Piece",
    "Problem",
    "TokenLabel",
    "label_tokens",
    "problems",
    "split_of",
    "texts",
]


def problems(
    family: str, *, n: int, steps: int, seed: int = 0, split: str = "held-out"
) -> list[Problem]:
    """Problems of a task family, with answers, thinking and labels; the same seed, the same ones.

    Args:
        family: "arithmetic", "swaps", "code", "stories" or "lists".
        n: how many; of short ones there are few, so that they repeat.
        steps: of each problem.
        seed: of the draw.
        split: "held-out", which no embedded model was trained on, or "train".

    Raises:
        ValueError: an unknown family or split, or a number of steps that it does not have.
    """
    if family not in FAMILIES:
        raise ValueError(f"there is no family {family!r}: choose from {', '.join(FAMILIES)}")
    splits: dict[str, Split] = {"held-out": "held-out", "train": "train"}
    if split not in splits:
        raise ValueError(f"there is no split {split!r}: choose from {', '.join(splits)}")
    rng = random.Random(seed)
    return [FAMILIES[family].draw(rng, steps, splits[split]) for _ in range(n)]


def train(
    name: str,
    *,
    seed: int = 0,
    minutes: float | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Path:
    """Train an embedded model from scratch, measure it, and write it in Hugging Face format.

    An interrupted run goes on when it is started again with the same arguments.

    Args:
        name: "tiny-moe" or "tiny-dense".
        seed: of weights and documents.
        minutes: stop after so long; the learning rate falls accordingly.
        out: folder of the run; `runs/<name>-seed<seed>` if None.
        device: where to train.
        progress: show progress bars.

    Returns:
        The folder of the finished model, in the run's folder.

    Raises:
        ValueError: an unknown name, or a folder that holds another run.
    """
    from qwen3lab.tiny.training import train_model

    folder = Path(out) if out is not None else Path("runs") / f"{name}-seed{seed}"
    return train_model(
        name, seed=seed, minutes=minutes, folder=folder, device=device, progress=progress
    )
