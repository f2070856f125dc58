"""Recordings that go straight to the disk, layer by layer, and can be taken up again.

Nothing but one layer's activations is in memory. After every layer its file is complete, and so
is the residual stream from which the next one goes on; an interrupt costs one layer at most.
"""

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
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from qwen3lab.config import Qwen3Config
from qwen3lab.generate import pad_left
from qwen3lab.hooks import hook_names
from qwen3lab.model import Qwen3
from qwen3lab.positions import Place
from qwen3lab.recording import MAPS, Recorder
from qwen3lab.streaming import StreamedBlocks
from qwen3lab.views import RecordingError

FORMAT = 1
PLAN, STREAM, LOGITS = "plan.json", "stream.safetensors", "hook_unembed"
OUTER = "outer.safetensors"
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
        return {
            "format": FORMAT,
            "model": self.model_name,
            "config": model.config.to_dict(),
            "runs_in": str(model.dtype),
            "rows": [list(row) for row in self.rows],
            "names": list(self.names),
            "dtype": str(self.dtype),
        }


@torch.no_grad()
def record_to_disk(model: Qwen3, job: Job, *, progress: bool = True) -> list[Mapping[str, Tensor]]:
    """Run prompts once, and keep what the job names in its folder.

    A folder that holds the beginning of the same job is gone on with, and one that holds all of
    it is read.

    Returns:
        For each prompt its activations by hook name, read when they are asked for.

    Raises:
        RecordingError: the folder holds something else, or its disk has too little room; said
            before anything is run.
    """
    _begin(model, job)
    ids, mask = pad_left(job.rows, model.device)
    padded = None if bool(mask.all()) else mask
    place = Place.of(ids, padded, None, model.config, None)
    done, resid = _resumed(job.folder)
    outer = Recorder([n for n in job.names if not n.startswith("blocks.")], dtype=job.dtype)
    if resid is None:
        resid = outer("hook_embed", model.embed(ids))
        _save(job.folder / "embed.safetensors", _taken(outer, ["hook_embed"]))
    bar = tqdm(
        total=model.config.n_layers, initial=done, unit="layer", disable=not progress, delay=2.0
    )
    with bar:
        for layer, block in enumerate(_since(model, done), done):
            inner = [name for name in job.names if name.startswith(f"blocks.{layer}.")]
            tap = Recorder(inner, dtype=job.dtype)
            resid = block(resid.to(model.device), place, tap)
            _save(job.folder / _file_of(f"blocks.{layer}."), _taken(tap, inner))
            _save(job.folder / STREAM, {"resid": resid.cpu()}, layers=layer + 1)
            bar.update()
    if not (job.folder / OUTER).exists():
        _finish(model, job, resid, outer)
    longest = ids.shape[1]
    return [
        OnDisk(job.folder, job.names, row, longest - len(ids_of_row), longest)
        for row, ids_of_row in enumerate(job.rows)
    ]


def _finish(model: Qwen3, job: Job, resid: Tensor, outer: Recorder) -> None:
    """What comes after the last layer; logits prompt by prompt, since they are large."""
    final = model.ln_final(resid.to(model.device), outer)
    if LOGITS in job.names:
        for row in range(len(job.rows)):
            tap = Recorder([LOGITS], dtype=job.dtype)
            tap(LOGITS, F.linear(final[row : row + 1], model.unembedding))
            _save(job.folder / _file_of(LOGITS, row), _taken(tap, [LOGITS]))
    names = [name for name in job.names if name.startswith("ln_final.")]
    _save(job.folder / OUTER, _taken(outer, names))


def _begin(model: Qwen3, job: Job) -> None:
    """Note the job, or see that it is the one that was noted."""
    about = job.about(model)
    plan = job.folder / PLAN
    if plan.exists():
        if json.loads(plan.read_text(encoding="utf-8")) != json.loads(json.dumps(about)):
            raise RecordingError(
                f"{job.folder} holds a recording of other prompts, hooks or another model: choose "
                "another folder, or remove it to begin anew"
            )
        return
    if job.folder.exists() and any(job.folder.iterdir()):
        raise RecordingError(
            f"{job.folder} is not empty, and what it holds is no recording: choose another folder"
        )
    parent = next(p for p in (job.folder, *job.folder.resolve().parents) if p.exists())
    needed, free = n_bytes(model.config, job, model.dtype), shutil.disk_usage(parent).free
    if needed * ROOM > free:
        raise RecordingError(
            f"the recording takes {needed / 1e9:.1f} GB, and the disk of {job.folder} has room for "
            f"{free / 1e9:.1f} GB: keep fewer hooks, or a dtype of fewer bytes"
        )
    job.folder.mkdir(parents=True, exist_ok=True)
    part = plan.with_suffix(".part")
    part.write_text(json.dumps(about), encoding="utf-8")
    part.replace(plan)


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


def _since(model: Qwen3, first: int) -> Iterable[nn.Module]:
    """The model's blocks from one of them on."""
    blocks = model.blocks
    return blocks.since(first) if isinstance(blocks, StreamedBlocks) else blocks[first:]


def _resumed(folder: Path) -> tuple[int, Tensor | None]:
    """Layers that are done, and the residual stream after them."""
    path = folder / STREAM
    if not path.exists():
        return 0, None
    try:
        with safe_open(path, framework="pt") as file:
            return int(file.metadata()["layers"]), file.get_tensor("resid").clone()
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise RecordingError(
            f"{path} is damaged ({error}): remove {folder} to begin anew"
        ) from error


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


def _save(path: Path, tensors: dict[str, Tensor], **about: int) -> None:
    """Write a file that is there either wholly or not at all."""
    part = path.with_suffix(".part")
    save_file(tensors, part, metadata={name: str(value) for name, value in about.items()})
    part.replace(path)


def _file_of(name: str, row: int = 0) -> str:
    """The file that a hook's activation is in."""
    if name.startswith("blocks."):
        return f"layer-{int(name.split('.')[1]):03}.safetensors"
    if name == LOGITS:
        return f"logits-{row:05}.safetensors"
    return "embed.safetensors" if name == "hook_embed" else OUTER


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
        return found[:, self.span, self.span] if name.endswith(MAPS) else found[self.span]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
