"""The training pipeline of an embedded model: train, export, fit lenses, evaluate."""

import json
import shutil
from pathlib import Path

from qwen3lab.checkpoints.embedded import edition_of
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.device.malloc import keep_freed
from qwen3lab.errors import CheckpointError
from qwen3lab.generation.sampling import Sampling
from qwen3lab.lab import Lab, load
from qwen3lab.model.transformer import Qwen3
from qwen3lab.storage.atomic_files import whole_file, write_text
from qwen3lab.storage.checked_tensors import read_tensors
from qwen3lab.text.tokenizer import end_ids, open_tokenizer
from qwen3lab.tiny.evaluation.card import write_card
from qwen3lab.tiny.evaluation.evaluate import N_MIXED, SEED, Evaluation, N, evaluate
from qwen3lab.tiny.lens_files import write_lenses
from qwen3lab.tiny.training.recipes import RECIPES, Recipe
from qwen3lab.tiny.training.trainer import SHIPPED_DTYPE, Trainer
from qwen3lab.tiny.training.training_log import LOG
from qwen3lab.tiny.world.tokenizer import EARLY_STOP, EDITION, write_tokenizer
from qwen3lab.translation import tr


def train_model(
    recipe: Recipe, *, minutes: float | None, folder: Path, device: str, progress: bool
) -> Path:
    """Train, export and evaluate a model, and fit its lenses: all of `qwen3lab.tiny.train`."""
    keep_freed()
    write_tokenizer(folder)
    trainer = Trainer(recipe, open_tokenizer(folder), EARLY_STOP, folder, device)
    trainer.run(minutes=minutes, progress=progress)
    model = folder / recipe.name
    export(trainer.model, model)
    export_early(trainer, model)
    with whole_file(model / LOG) as part:
        shutil.copyfile(folder / LOG, part)
    write_lenses(model, progress=progress)
    measure(model, write=True, progress=progress)
    return model


def export(model: Qwen3, folder: Path) -> None:
    """Write a model and its tokenizer in Hugging Face format."""
    save_checkpoint(model, folder, dtype=SHIPPED_DTYPE)
    write_tokenizer(folder)
    write_generation_config(folder)


def export_early(trainer: Trainer, folder: Path) -> None:
    """Write the weights of the recipe's early steps, if reached, into subfolders `step<n>`."""
    early = Qwen3(trainer.recipe.config)
    for step in trainer.recipe.early:
        if trainer.weights_at(step).exists():
            early.load_state_dict(read_tensors(trainer.weights_at(step)))
            export(early, folder / f"step{step}")


def write_generation_config(folder: Path) -> None:
    """Write generation_config.json: the end tokens and Qwen3's sampling settings for thinking."""
    tokenizer = open_tokenizer(folder)
    published = Sampling.published(thinking=True)
    fields = {
        "do_sample": True,
        "eos_token_id": sorted(end_ids(tokenizer)),
        "pad_token_id": tokenizer.pad_token_id,
        "temperature": published.temperature,
        "top_k": published.top_k,
        "top_p": published.top_p,
    }
    text = json.dumps(fields, indent=2)
    write_text(folder / "generation_config.json", f"{text}\n")


def measure(
    name: str | Path,
    *,
    n: int = N,
    n_mixed: int = N_MIXED,
    seed: int = SEED,
    write: bool = False,
    progress: bool = True,
) -> tuple[Evaluation, Path]:
    """Evaluate an embedded model.

    Args:
        name: of the model, or its folder.
        n: number of problems of each kind, and of texts of each family.
        n_mixed: number of problems of mixed length for the curve over budgets.
        seed: of the problems.
        write: write the card into the model's folder.
        progress: show a bar.

    Returns:
        The evaluation, and the model's folder.

    Raises:
        CheckpointError: there is no such model, or it is of another edition of the world.
    """
    folder = find_folder(name)
    lab = load(folder, device="cpu")
    _check_edition(lab, name)
    lab.name = folder.name if folder.name in RECIPES else str(name)
    evaluation = evaluate(lab, n=n, n_mixed=n_mixed, seed=seed, progress=progress)
    if write:
        write_card(folder, evaluation)
    return evaluation, folder


def _check_edition(lab: Lab, name: str | Path) -> None:
    """Refuse a model that was trained on another edition of the world, with other questions."""
    edition = edition_of(lab.tokenizer)
    if edition != EDITION:
        raise CheckpointError(
            tr(
                "{name} is of edition {edition} of the embedded world, but the problems are of "
                "edition {now}: its own card has its measurements (`tiny.read_card`)",
                name=name,
                edition=edition,
                now=EDITION,
            )
        )
