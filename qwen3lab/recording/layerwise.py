"""Records to disk layer by layer, and resumes after an interrupt.

Only one layer's activations are in memory at a time. After each layer, its activations and the
residual stream are written to files, so an interrupt costs at most one layer. Each file names its
job, which is checked before a recording is resumed.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.device.grad_mode import without_grad
from qwen3lab.display.plain import one_line
from qwen3lab.errors import RecordingError
from qwen3lab.hooks.points import hook_names
from qwen3lab.model.batching import pad_left
from qwen3lab.model.positions import Positions
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.quantised_model import quantisation_of
from qwen3lab.recording.non_finite import NonFiniteWarning
from qwen3lab.recording.on_disk import (
    EMBED,
    LOGITS,
    MAX_REASON_CHARACTERS,
    OUTER,
    STREAM,
    DiskLayout,
    OnDisk,
    file_of,
    own_positions,
)
from qwen3lab.recording.recorder import Recorder
from qwen3lab.recording.weights_fingerprint import fingerprint
from qwen3lab.storage.atomic_files import is_leftover, whole_file
from qwen3lab.storage.tensor_files import Files
from qwen3lab.translation import tr

FORMAT = 3
WITHOUT_CHECKSUMS = 2
"""The format before checksums, whose folders are still read and resumed."""
PLAN = "plan.json"
PROGRESS_DELAY_SECONDS = 2.0
"""Time after which the progress bar appears."""
MAX_FILE_OVERHEAD = 1.05
"""Size of the files relative to their tensors, at most; used for the check of free space."""
CHECKSUM_BYTES = 68
"""Of a SHA-256 checksum as text in a file's header."""


@dataclass(frozen=True)
class Job:
    """What to record, and in which folder.

    Attributes:
        folder: folder of the files.
        rows: token ids of the prompts.
        names: hooks to record.
        dtype: dtype of recorded floating-point values; that of the model if None.
        model_name: name or path that the model was loaded from.
    """

    folder: Path
    rows: Sequence[Sequence[int]]
    names: Sequence[str]
    dtype: torch.dtype | None
    model_name: str

    def about(self, model: Qwen3) -> dict[str, Any]:
        """Everything that identifies this job; it is stored in the folder's plan."""
        quantisation = quantisation_of(model)
        return {
            "format": FORMAT,
            "model": self.model_name,
            "config": model.config.to_dict(),
            "quantisation": quantisation.kind if quantisation else None,
            "weights": fingerprint(model),
            "runs_in": str(model.dtype),
            "rows": [list(row) for row in self.rows],
            "names": list(self.names),
            "dtype": str(self.dtype),
        }

    def files(self, n_layers: int) -> dict[str, list[str]]:
        """Hooks in each file, by file name; a file may have none."""
        blocks = [file_of(f"blocks.{layer}.") for layer in range(n_layers)]
        hooks: dict[str, list[str]] = {name: [] for name in (EMBED, *blocks, OUTER)}
        for name in self.names:
            for row in range(len(self.rows)) if name == LOGITS else (0,):
                hooks.setdefault(file_of(name, row), []).append(name)
        return hooks


@without_grad
def record_to_disk(model: Qwen3, job: Job, *, progress: bool = True) -> list[Mapping[str, Tensor]]:
    """Run the prompts once, and write the job's activations to its folder.

    If the folder has part of the same job, the job is resumed; if it is complete, nothing is run.

    Returns:
        For each prompt, its activations by hook name; they are read from disk on access.

    Raises:
        RecordingError: the folder has other files, or the disk has too little free space (both
            are checked before the model runs); or a file cannot be written.
    """
    about = _check_or_write_plan(model, job)
    longest = max(len(ids) for ids in job.rows)
    files = Files(
        job.folder,
        hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest(),
        job.files(model.config.n_layers),
        DiskLayout(model.config, len(job.rows), longest, model.dtype),
        needs_checksums=about["format"] != WITHOUT_CHECKSUMS,
    )
    if not all(files.has(name) for name in files.hooks):
        _run(model, job, files, progress=progress)
    return [
        OnDisk(files, model.config, job.names, row, slice(longest - len(ids), longest))
        for row, ids in enumerate(job.rows)
    ]


def _run(model: Qwen3, job: Job, files: Files, *, progress: bool) -> None:
    """Compute and write the files that are missing."""
    ids, mask = pad_left(job.rows, model.device)
    padded = None if bool(mask.all()) else mask
    positions = Positions.of(ids, padded, None, model.config, None)
    n_done, resid = _load_stream(model, files)
    outer = Recorder([n for n in job.names if not n.startswith("blocks.")], dtype=job.dtype)
    watch = _Watch(job, NonFiniteWarning(model.config, len(job.rows)))
    if resid is None or not files.has(EMBED):
        embedded = outer("hook_embed", model.embed(ids))
        files.save(EMBED, watch.seen(_take_activations(outer, files.hooks[EMBED])))
        resid = embedded if resid is None else resid
    options = {"disable": not progress, "delay": PROGRESS_DELAY_SECONDS}
    with tqdm(total=model.config.n_layers, initial=n_done, unit=tr("layer"), **options) as bar:
        for layer, block in enumerate(model.blocks.since(n_done), n_done):
            name = file_of(f"blocks.{layer}.")
            tap = Recorder(files.hooks[name], dtype=job.dtype)
            resid = block(resid.to(model.device), positions, tap)
            files.save(name, watch.seen(_take_activations(tap, files.hooks[name])))
            files.save(STREAM, {"resid": resid.cpu()}, layers=layer + 1)
            bar.update()
    _finish(model, files, resid, outer, watch)


def _finish(model: Qwen3, files: Files, resid: Tensor, outer: Recorder, watch: "_Watch") -> None:
    """Write the final norm and the logits; logits prompt by prompt, as they are large."""
    logit_files = [name for name, hooks in files.hooks.items() if LOGITS in hooks]
    final = model.ln_final(resid.to(model.device), outer)
    for row, name in enumerate(logit_files):
        tap = Recorder([LOGITS], dtype=watch.job.dtype)
        tap(LOGITS, F.linear(final[row : row + 1], model.unembedding))
        files.save(name, watch.seen(_take_activations(tap, [LOGITS]), [row]))
    files.save(OUTER, watch.seen(_take_activations(outer, files.hooks[OUTER])))


@dataclass(frozen=True)
class _Watch:
    """Warns of the first activation of a job that is NaN or infinite."""

    job: Job
    warning: NonFiniteWarning

    def seen(
        self, tensors: dict[str, Tensor], rows: Sequence[int] | None = None
    ) -> dict[str, Tensor]:
        """The tensors, which have a row for each of these prompts, or for all."""
        for index, row in enumerate(range(len(self.job.rows)) if rows is None else rows):
            n = len(self.job.rows[row])
            own = slice(max(map(len, self.job.rows)) - n, None)
            self.warning.look(
                {name: own_positions(name, each[index], own) for name, each in tensors.items()}, row
            )
        return tensors


def _check_or_write_plan(model: Qwen3, job: Job) -> dict[str, Any]:
    """Write the job's plan, or check that the folder's plan is the same; returns it."""
    about = json.loads(json.dumps(job.about(model)))
    folder, plan = job.folder, job.folder / PLAN
    if folder.exists() and not folder.is_dir():
        raise RecordingError(f"{folder} is a file: give the name of a folder")
    if plan.exists():
        about["format"] = _check_plan(plan, about)
    elif folder.exists() and any(not is_leftover(path) for path in folder.iterdir()):
        raise RecordingError(f"{folder} is not empty, and has no recording: choose another folder")
    _check_free_space(model, job)
    if not plan.exists():
        with whole_file(plan, error=RecordingError) as part:
            folder.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(about), encoding="utf-8")
    return about


def _check_plan(plan: Path, about: dict[str, Any]) -> int:
    """Check that a plan is that of this job; returns the number of its format."""
    try:
        if not plan.is_file():  # Reading a pipe would block.
            raise ValueError("not a regular file")
        stored = dict(json.loads(plan.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        reason = one_line(str(error), width=MAX_REASON_CHARACTERS)
        raise RecordingError(
            f"{plan} is damaged ({reason}): remove {plan.parent} to start again"
        ) from error
    readable = stored.get("format") in (FORMAT, WITHOUT_CHECKSUMS)
    about = about | {"format": stored["format"] if readable else FORMAT}
    if different := sorted(key for key in about | stored if stored.get(key) != about.get(key)):
        listed = one_line(", ".join(different), width=MAX_REASON_CHARACTERS)
        raise RecordingError(
            f"{plan.parent} has a recording of other prompts, hooks or another model (different: "
            f"{listed}): choose another folder, or remove it to start again"
        )
    return int(about["format"])


def _check_free_space(model: Qwen3, job: Job) -> None:
    """Check that the disk has space for the files that are not yet written."""
    written = sum(path.stat().st_size for path in _regular(job.folder))
    needed = (n_bytes(model.config, job, model.dtype) - written) * MAX_FILE_OVERHEAD
    parent = next(p for p in (job.folder, *job.folder.resolve().parents) if p.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise RecordingError(
            f"{'the rest of ' if written else ''}the recording needs {needed / 1e9:.1f} GB, and "
            f"the disk of {job.folder} has {free / 1e9:.1f} GB free: free some space, record fewer "
            "hooks, or choose a smaller dtype"
        )


def n_bytes(config: Qwen3Config, job: Job, runs_in: torch.dtype) -> int:
    """Bytes of a recording on disk, with checksums, and the residual stream for resuming."""
    longest = max(len(row) for row in job.rows)
    sizes = {
        **{name: getattr(config, name) for name in ("d_model", "d_head", "d_mlp")},
        "batch": len(job.rows),
        **dict.fromkeys(("pos", "query", "key"), longest),
        "head": config.n_heads,
        "kv_head": config.n_kv_heads,
        "expert": config.n_experts,
        "k": config.n_experts_per_token,
        "vocab": config.d_vocab,
        "1": 1,
    }
    points, float_size = hook_names(config), (job.dtype or runs_in).itemsize
    total = len(job.rows) * longest * config.d_model * runs_in.itemsize
    total += len(job.rows) * len(job.names) * CHECKSUM_BYTES
    for name in job.names:
        itemsize = 8 if name.endswith("hook_expert_indices") else float_size
        total += itemsize * prod(sizes[axis] for axis in points[name].axes.split())
    return total


def _regular(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.safetensors") if path.is_file()]


def _load_stream(model: Qwen3, files: Files) -> tuple[int, Tensor | None]:
    """Number of recorded layers, and the residual stream after them; (0, None) to start again."""
    path, n_layers = files.folder / STREAM, model.config.n_layers
    if not path.exists():
        return 0, None
    try:
        with files.open(STREAM) as file:
            n_done, resid = int(file.metadata["layers"]), file.read("resid", by_row=True)
            if not 0 < n_done <= n_layers:
                raise ValueError(f"it is said to be after {n_done} of {n_layers} layers")
    except (KeyError, ValueError, OSError) as error:
        reason = one_line(str(error), width=MAX_REASON_CHARACTERS)
        raise RecordingError(
            f"{path} is not the residual stream of this recording ({reason}): remove "
            f"{files.folder} to start again"
        ) from error
    # Earlier layers cannot be computed from this stream: if a file is missing, all are run again.
    complete = all(files.has(file_of(f"blocks.{layer}.")) for layer in range(n_done))
    return (n_done, resid) if complete else (0, None)


def _take_activations(recorder: Recorder, names: Iterable[str]) -> dict[str, Tensor]:
    """The activations of some hooks from one pass, on the CPU; removes them from the recorder."""
    recorder.wait()
    tensors = {}
    for name in names:
        pieces = recorder.pieces.get(name, [])
        if pieces:
            # Cloned because hooks may share memory, which safetensors refuses.
            tensors[name] = pieces[0].cpu().clone().contiguous()
            pieces.clear()
    return tensors
