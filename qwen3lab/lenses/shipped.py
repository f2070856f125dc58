"""The lenses that ship with the embedded models, in the models' folders."""

from pathlib import Path

from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.display import one_line
from qwen3lab.errors import CheckpointError
from qwen3lab.lab import Lab
from qwen3lab.lenses.lens_file import is_lens_of
from qwen3lab.translation import tr

MADE_BY = {"tuned lens": "lenses.train", "Jacobian lens": "lenses.fit_jacobian"}
"""What makes a lens of each kind."""


def file_of(kind: str, folder: Path) -> Path:
    """Path of a model's lens of this kind, such as `tuned-lens.safetensors` in its folder."""
    return folder / f"{kind.lower().replace(' ', '-')}.safetensors"


def shipped_file(lab: Lab, kind: str) -> Path:
    """Path of the lens of this kind that ships for the weights of a lab.

    Raises:
        CheckpointError: none does.
    """
    folders = sorted([*EMBEDDED.iterdir(), *EMBEDDED.glob("*/v1")])  # And the first edition.
    files = [file_of(kind, folder) for folder in folders]
    files = [path for path in files if path.exists()]
    for path in files:
        if is_lens_of(path, kind, lab):
            return path
    named = ["@".join(path.parent.relative_to(EMBEDDED).parts) for path in files]
    names = ", ".join(named) or tr("no model")
    raise CheckpointError(
        tr(
            "no {kind} ships for the weights of {name}: one ships for {names}, as "
            "last trained; make one with {made_by}",
            kind=kind,
            name=one_line(lab.name),
            names=names,
            made_by=MADE_BY[kind],
        )
    )


def ships(lab: Lab, kind: str) -> bool:
    """True if a lens of this kind ships for the weights of a lab."""
    try:
        shipped_file(lab, kind)
    except CheckpointError:
        return False
    return True
