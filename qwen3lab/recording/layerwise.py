"""Recordings that go straight to the disk, layer by layer, and can be taken up again.

Nothing but one layer's activations is in memory. After every layer its file is complete, and so
is the residual stream from which the next one goes on; an interrupt costs one layer at most.
Every file says which job it belongs to, and is looked at before a job is gone on with.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import RecordingError
from qwen3lab.hooks.points import PATTERN_HOOKS, hook_names
from qwen3lab.model.batching import pad_left
from qwen3lab.model.positions import Positions
from qwen3lab.model.transformer import Qwen3
from qwen3lab.quantisation.quantised_model import quantisation_of
from qwen3lab.recording.recorder import Recorder
from qwen3lab.recording.weights_fingerprint import fingerprint
from qwen3lab.storage.atomic_files import is_leftover, whole_file
from qwen3lab.storage.tensor_files import Files

FORMAT = 2
LOGITS = "hook_unembed"
PLAN, STREAM = "plan.json", "stream.safetensors"
EMBED, OUTER = "embed.safetensors", "outer.safetensors"
ROOM = 1.05
"""What the files take, over what their tensors take, at most."""


@dataclass(frozen=True)
class Job:
    """What is recorded, and where.

    Attributes:
        folder: of the files.
        rows: token ids of the prompts.
        names: hooks to keep.
        dtype: of what is kept; as it runs if None.
        model_name: what the model was loaded as; others may have the same sizes.
    """

    folder: Path
    rows: Sequence[Sequence[int]]
    names: Sequence[str]
    dtype: torch.dtype | None
    model_name: str

    def about(self, model: Qwen3) -> dict[str, Any]:
        """What tells this job from others."""
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
        """The hooks that each file holds, which may be none, by the file's name."""
        blocks = [_file_of(f"blocks.{layer}.") for layer in range(n_layers)]
        found: dict[str, list[str]] = {name: [] for name in (EMBED, *blocks, OUTER)}
        for name in self.names:
            for row in range(len(self.rows)) if name == LOGITS else (0,):
                found.setdefault(_file_of(name, row), []).append(name)
        return found


@torch.no_grad()
def record_to_disk(model: Qwen3, job: Job, *, progress: bool = True) -> list[Mapping[str, Tensor]]:
    """Run prompts once, and keep what the job names in its folder.

    A folder that holds the beginning of the same job is gone on with, and one that holds all of
    it is read.

    Returns:
        For each prompt its activations by hook name, read when they are asked for.

    Raises:
        RecordingError: the folder holds something else, or its disk has too little room; said
            before anything is run. Or a file cannot be written.
    """
    files = Files(job.folder, _begin(model, job), job.files(model.config.n_layers))
    if not all(files.has(name) for name in files.hooks):
        _run(model, job, files, progress=progress)
    longest = max(len(ids) for ids in job.rows)
    return [
        OnDisk(job.folder, job.names, row, longest - len(ids), longest)
        for row, ids in enumerate(job.rows)
    ]


def _run(model: Qwen3, job: Job, files: Files, *, progress: bool) -> None:
    """Run what has not been run, or has been lost."""
    ids, mask = pad_left(job.rows, model.device)
    padded = None if bool(mask.all()) else mask
    place = Positions.of(ids, padded, None, model.config, None)
    done, resid = _resumed(model, files, (len(ids), ids.shape[1], model.config.d_model))
    outer = Recorder([n for n in job.names if not n.startswith("blocks.")], dtype=job.dtype)
    if resid is None or not files.has(EMBED):
        embedded = outer("hook_embed", model.embed(ids))
        files.save(EMBED, _taken(outer, files.hooks[EMBED]))
        resid = embedded if resid is None else resid
    bar = tqdm(
        total=model.config.n_layers, initial=done, unit="layer", disable=not progress, delay=2.0
    )
    with bar:
        for layer, block in enumerate(model.blocks.since(done), done):
            name = _file_of(f"blocks.{layer}.")
            tap = Recorder(files.hooks[name], dtype=job.dtype)
            resid = block(resid.to(model.device), place, tap)
            files.save(name, _taken(tap, files.hooks[name]))
            files.save(STREAM, {"resid": resid.cpu()}, layers=layer + 1)
            bar.update()
    _finish(model, job, files, resid, outer)


def _finish(model: Qwen3, job: Job, files: Files, resid: Tensor, outer: Recorder) -> None:
    """What comes after the last layer; logits prompt by prompt, since they are large."""
    logits = [name for name, hooks in files.hooks.items() if LOGITS in hooks]
    final = model.ln_final(resid.to(model.device), outer)
    for row, name in enumerate(logits):
        tap = Recorder([LOGITS], dtype=job.dtype)
        tap(LOGITS, F.linear(final[row : row + 1], model.unembedding))
        files.save(name, _taken(tap, [LOGITS]))
    files.save(OUTER, _taken(outer, files.hooks[OUTER]))


def _begin(model: Qwen3, job: Job) -> str:
    """Note the job, or see that it is the one that was noted; gives what marks its files."""
    about = json.loads(json.dumps(job.about(model)))
    folder, plan = job.folder, job.folder / PLAN
    if folder.exists() and not folder.is_dir():
        raise RecordingError(f"{folder} is a file: give the name of a folder")
    if plan.exists():
        _compare(plan, about)
    elif folder.exists() and any(not is_leftover(path) for path in folder.iterdir()):
        raise RecordingError(
            f"{folder} is not empty, and what it holds is no recording: choose another folder"
        )
    _see_room(model, job)
    if not plan.exists():
        with whole_file(plan, error=RecordingError) as part:
            folder.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(about), encoding="utf-8")
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _compare(plan: Path, about: dict[str, Any]) -> None:
    """See that a plan is that of a job."""
    try:
        found = dict(json.loads(plan.read_text(encoding="utf-8")))
    except (OSError, TypeError, ValueError, RecursionError) as error:
        raise RecordingError(
            f"{plan} is damaged ({error}): remove {plan.parent} to begin anew"
        ) from error
    if other := sorted(key for key in about | found if found.get(key) != about.get(key)):
        raise RecordingError(
            f"{plan.parent} holds a recording of other prompts, hooks or another model (what "
            f"differs: {', '.join(other)}): choose another folder, or remove it to begin anew"
        )


def _see_room(model: Qwen3, job: Job) -> None:
    """See that the disk has room for what is not yet there."""
    held = sum(path.stat().st_size for path in job.folder.glob("*.safetensors"))
    needed = (n_bytes(model.config, job, model.dtype) - held) * ROOM
    parent = next(p for p in (job.folder, *job.folder.resolve().parents) if p.exists())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise RecordingError(
            f"{'the rest of ' if held else ''}the recording takes {needed / 1e9:.1f} GB, and the "
            f"disk of {job.folder} has room for {free / 1e9:.1f} GB: make room, or keep fewer "
            "hooks or a dtype of fewer bytes"
        )


def n_bytes(config: Qwen3Config, job: Job, runs_in: torch.dtype) -> int:
    """Bytes that a recording takes on the disk, the residual stream to go on from included."""
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
    known, kept = hook_names(config), (job.dtype or runs_in).itemsize
    total = len(job.rows) * longest * config.d_model * runs_in.itemsize
    for name in job.names:
        itemsize = 8 if name.endswith("hook_expert_indices") else kept
        total += itemsize * prod(sizes[axis] for axis in known[name].axes.split())
    return total


def _resumed(model: Qwen3, files: Files, shape: tuple[int, int, int]) -> tuple[int, Tensor | None]:
    """Layers that are done, and the residual stream after them; none if the file of one is not."""
    path, n_layers = files.folder / STREAM, model.config.n_layers
    if not path.exists():
        return 0, None
    try:
        with safe_open(path, framework="pt") as file:
            about, resid = file.metadata() or {}, file.get_tensor("resid").clone()
            done = int(about["layers"])
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise RecordingError(
            f"{path} is damaged ({error}): remove {files.folder} to begin anew"
        ) from error
    if about.get("job") != files.mark or not 0 < done <= n_layers or resid.shape != shape:
        raise RecordingError(
            f"{path} is not the stream of this recording after one of its {n_layers} layers: "
            f"remove {files.folder} to begin anew"
        )
    # The stream leads back to no layer before it: where one of those is lost, all are run again.
    whole = all(files.has(_file_of(f"blocks.{layer}.")) for layer in range(done))
    return (done, resid) if whole else (0, None)


def _taken(recorder: Recorder, names: Iterable[str]) -> dict[str, Tensor]:
    """What a recorder has kept of some hooks, as one pass gave it; the recorder forgets it."""
    recorder.wait()
    found = {}
    for name in names:
        pieces = recorder.pieces.get(name, [])
        if pieces:
            # Cloned where two hooks share memory, which the file format refuses.
            found[name] = pieces[0].cpu().clone().contiguous()
            pieces.clear()
    return found


def _file_of(name: str, row: int = 0) -> str:
    """The file that a hook's activation is in."""
    if name.startswith("blocks."):
        return f"layer-{int(name.split('.')[1]):03}.safetensors"
    if name == LOGITS:
        return f"logits-{row:05}.safetensors"
    return EMBED if name == "hook_embed" else OUTER


class OnDisk(Mapping[str, Tensor]):
    """The activations of one prompt by hook name, mapped from their files when asked for.

    Args:
        folder: of the files.
        names: of the hooks that were kept.
        row: of the prompt in the batch.
        start: its first position, after the padding.
        stop: past its last position.
    """

    def __init__(self, folder: Path, names: Sequence[str], row: int, start: int, stop: int) -> None:
        self.folder, self.row, self.span = folder, row, slice(start, stop)
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        path = self.folder / _file_of(name, self.row)
        try:
            with safe_open(path, framework="pt") as file:
                found = file.get_tensor(name)[0 if name == LOGITS else self.row]
        except (SafetensorError, OSError) as error:
            raise RecordingError(
                f"{name} cannot be read from {path} ({error}): record it again"
            ) from error
        return found[:, self.span, self.span] if name.endswith(PATTERN_HOOKS) else found[self.span]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
