"""The tuned and the Jacobian lens that ship with each embedded model."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from qwen3lab import lenses
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.lab import Lab, load
from qwen3lab.lenses.shipped import file_of
from qwen3lab.recording.weights_fingerprint import fingerprint
from qwen3lab.tiny.training.recipes import RECIPES
from qwen3lab.tiny.training.trainer import SHIPPED_DTYPE
from qwen3lab.tiny.world.documents import Writer
from qwen3lab.tiny.world.tokenizer import EARLY_STOP

SEED = 1
N_TEXTS = 4000
"""Training documents for the tuned lens."""
TUNED_STEPS = 600
LEARNING_RATE = 3e-3
BATCH_TEXTS = 16
N_PROMPTS = 200
"""Training documents for the Jacobian lens."""
SKIPPED_FIRST = 4
"""Positions that the Jacobian lens leaves out. These models have no attention sink, and their texts
are short."""

OTHER_DTYPES = ("bfloat16", "float16")
"""Besides float32, a lab of an embedded model has one of these."""


def write_lenses(name: str | Path, *, progress: bool = True) -> list[Path]:
    """Fit both lenses of an embedded model, and write them into its folder.

    They are fitted to training documents, so that the held-out texts can measure them.

    Args:
        name: of the model, or its folder, whose last part is the model's name.
        progress: show progress bars.

    Returns:
        The paths of the files.

    Raises:
        CheckpointError: there is no such model.
    """
    folder = find_folder(name)
    lab = load(folder, device="cpu", dtype="float32")
    lab.name = folder.name
    texts = training_texts(lab, N_TEXTS)
    tuned = lenses.train(
        lab,
        texts,
        steps=TUNED_STEPS,
        batch_size=BATCH_TEXTS,
        learning_rate=LEARNING_RATE,
        seed=SEED,
        progress=progress,
    )
    long = [ids for ids in texts if len(ids) >= SKIPPED_FIRST + 2][:N_PROMPTS]
    jacobian = lenses.fit_jacobian(lab, long, skip_first=SKIPPED_FIRST, progress=progress)
    rounded = tuple(
        fingerprint(load(folder, device="cpu", dtype=dtype).model) for dtype in OTHER_DTYPES
    )
    paths = []
    for maps in (tuned, jacobian):
        halved = {name: getattr(maps, name).to(SHIPPED_DTYPE) for name in maps.axes}
        paths.append(file_of(maps.kind, folder))
        replace(maps, **halved).save(paths[-1], rounded=rounded)
    return paths


def training_texts(lab: Lab, n: int) -> Sequence[list[int]]:
    """Token ids of random training documents of the model."""
    recipe = RECIPES[lab.name]
    writer, rng = Writer(lab.tokenizer, EARLY_STOP, diets=recipe.diets), random.Random(SEED)
    return [writer.write(rng).token_ids for _ in range(n)]
