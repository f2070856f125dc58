"""Recorded activations in the files of a folder, which are read and checked on access."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display.plain import one_line
from qwen3lab.errors import RecordingError
from qwen3lab.hooks.points import PATTERN_HOOKS
from qwen3lab.recording.file_checks import Layout, check_experts, check_layouts
from qwen3lab.storage.tensor_files import Files
from qwen3lab.storage.tensor_header import StoredTensor

LOGITS = "hook_unembed"
STREAM = "stream.safetensors"
EMBED, OUTER = "embed.safetensors", "outer.safetensors"
MAX_REASON_CHARACTERS = 200


@dataclass(frozen=True)
class DiskLayout:
    """The dtypes and shapes that the files of a folder must have.

    Attributes:
        config: of the model that ran.
        batch: number of prompts.
        longest: positions of the longest prompt.
        stream_dtype: dtype of the residual stream.
    """

    config: Qwen3Config
    batch: int
    longest: int
    stream_dtype: torch.dtype

    def __call__(self, file: str, stored: Mapping[str, StoredTensor]) -> None:
        """Check the tensors of a file.

        Raises:
            ValueError: one does not fit; the message names it.
        """
        if file == STREAM:
            self._check_stream(stored)
            return
        for name, tensor in stored.items():
            rows = 1 if name == LOGITS else self.batch
            if tensor.shape[:1] != (rows,):
                raise ValueError(f"{name} has shape {tensor.shape}: expected {rows} prompts")
        layouts = {name: Layout(t.dtype, t.shape[1:]) for name, t in stored.items()}
        check_layouts(layouts, self.config, self.longest, k=self.config.n_experts_per_token)

    def _check_stream(self, stored: Mapping[str, StoredTensor]) -> None:
        shape = (self.batch, self.longest, self.config.d_model)
        found = {name: (tensor.dtype, tensor.shape) for name, tensor in stored.items()}
        if found != {"resid": (self.stream_dtype, shape)}:
            raise ValueError(f"it does not hold one tensor of shape {shape}")


class OnDisk(Mapping[str, Tensor]):
    """The activations of one prompt by hook name, read from their files on access.

    Only the prompt's part of a tensor is read, into newly allocated memory, and its checksum is
    checked. Nothing is mapped, so a file that is cut short meanwhile is an error.

    Args:
        files: of the folder.
        config: of the model that ran.
        names: recorded hooks.
        row: row of the prompt in the batch.
        span: the prompt's positions, after the padding.
    """

    def __init__(
        self, files: Files, config: Qwen3Config, names: Sequence[str], row: int, span: slice
    ) -> None:
        self.files, self.config, self.row, self.span = files, config, row, span
        self._names = dict.fromkeys(names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        file = file_of(name, self.row)
        try:
            with self.files.open(file) as opened:
                value = opened.read_row(name, 0 if name == LOGITS else self.row)
            check_experts(name, value, self.config)
        except (ValueError, OSError) as error:
            raise self._error(name, file, error) from error
        return own_positions(name, value, self.span)

    def n_bytes(self) -> int:
        """Bytes of the prompt's activations, from the headers of the files."""
        return sum(self._n_bytes(file) for file in {file_of(name, self.row) for name in self})

    def _n_bytes(self, file: str) -> int:
        n_kept, longest = self.span.stop - self.span.start, self.span.stop
        total = 0
        try:
            with self.files.open(file) as opened:
                for name, stored in opened.stored.items():
                    axes = 2 if name.endswith(PATTERN_HOOKS) else 1
                    total += stored.n_bytes // stored.shape[0] * n_kept**axes // longest**axes
        except (ValueError, OSError) as error:
            raise self._error("its size", file, error) from error
        return total

    def _error(self, name: str, file: str, error: Exception) -> RecordingError:
        reason = one_line(str(error), width=MAX_REASON_CHARACTERS)
        return RecordingError(
            f"{name} cannot be read from {self.files.folder / file} ({reason}): remove that file, "
            "and call record_to_disk again to record it again"
        )

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def own_positions(name: str, value: Tensor, span: slice) -> Tensor:
    """A prompt's own positions of an activation, without the padding."""
    return value[:, span, span] if name.endswith(PATTERN_HOOKS) else value[span]


def file_of(name: str, row: int = 0) -> str:
    """Name of the file with a hook's activation; `row` is the prompt, for logits."""
    if name.startswith("blocks."):
        return f"layer-{int(name.split('.')[1]):03}.safetensors"
    if name == LOGITS:
        return f"logits-{row:05}.safetensors"
    return EMBED if name == "hook_embed" else OUTER
