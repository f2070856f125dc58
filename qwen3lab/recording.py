"""What a tap took from a run, kept for looking at.

A recording holds activations by hook name. Attention is kept as rotated queries and keys,
which take memory linear in the tokens; a pattern is rendered when it is looked at.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qwen3lab.config import Qwen3Config
from qwen3lab.export import to_xarray
from qwen3lab.files import whole_file
from qwen3lab.hooks import hook_names, resolve_hooks
from qwen3lab.offload import Offload
from qwen3lab.views import AttentionView, RecordingError, RoutingView

if TYPE_CHECKING:
    import xarray

FORMAT = 1
MAPS = ("hook_pattern", "hook_attn_scores")
DAMAGES = (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError)
"""What reading a damaged text raises."""
ATTENTION = ("blocks.*.attn.hook_rot_q", "blocks.*.attn.hook_rot_k")
ROUTING = tuple(
    f"blocks.*.mlp.hook_{name}" for name in ("router_logits", "expert_indices", "expert_weights")
)


@dataclass(frozen=True)
class Recording:
    """One prompt's run: its tokens, and the activations that were asked for.

    Attributes:
        token_ids: of every position.
        tokens: their text, one readable string each.
        config: of the model that ran.
        model_name: what it was loaded as.
        capture: hook names that were recorded, in the model's order.
        activations: by hook name, without the batch axis, in the dtype in which they ran.
        spans: named ranges of tokens, such as "thinking" of a chat: first and past-the-end.
    """

    token_ids: Int[Tensor, " token"]
    tokens: list[str]
    config: Qwen3Config
    model_name: str
    activations: Mapping[str, Tensor]
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert len(self.tokens) == len(self.token_ids), "one text per token"

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        size = sum(value.nbytes for value in self.activations.values())
        return (
            f"Recording of {len(self)} tokens by {self.model_name}: "
            f"{len(self.activations)} hook points, {size / 2**20:.1f} MiB"
        )

    @property
    def capture(self) -> tuple[str, ...]:
        """Hook names that were recorded, in the model's order."""
        return tuple(name for name in hook_names(self.config) if name in self.activations)

    def __getitem__(self, name: str) -> Tensor:
        """An activation by hook name, without the batch axis, float32 on the CPU.

        Raises:
            HookError: no model of this shape has the hook.
            RecordingError: the hook exists but was not recorded.
        """
        value = self.raw(name)
        return value.float() if value.is_floating_point() else value

    def raw(self, name: str) -> Tensor:
        """An activation in the dtype in which it ran; raises as indexing does."""
        if name not in self.activations:
            resolve_hooks(name, self.config)
            raise RecordingError(
                f"{name} was not recorded: record again with capture=[{name!r}] added"
            )
        return self.activations[name]

    @property
    def logits(self) -> Float[Tensor, "token vocab"]:
        """Logits of the next token at every position, float32."""
        return self["hook_unembed"]

    @property
    def attention(self) -> AttentionView:
        """Attention patterns, rendered on demand."""
        return AttentionView(self.config, self.activations)

    @property
    def routing(self) -> RoutingView:
        """The routers' logits and choices; empty for a model without experts."""
        return RoutingView(self.config, self.activations, self.tokens)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with all of it; `Recording.load` reads it.

        Raises:
            RecordingError: the file cannot be written; nothing of it is left.
        """
        seen: set[int] = set()
        tensors = {"token_ids": self.token_ids}
        for name, value in self.activations.items():
            # The file format refuses tensors that share memory, as a residual stream does.
            shared = value.untyped_storage().data_ptr() in seen
            seen.add(value.untyped_storage().data_ptr())
            tensors[name] = value.clone() if shared else value
        whole = {name: value.contiguous() for name, value in tensors.items()}
        with whole_file(Path(path)) as part:
            save_file(whole, part, metadata={"qwen3lab": json.dumps(self._metadata())})

    def _metadata(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": version("qwen3lab"),
            "model_name": self.model_name,
            "config": self.config.to_dict(),
            "tokens": self.tokens,
            "spans": self.spans,
            "capture": self.capture,
        }

    @classmethod
    def load(cls, path: str | Path) -> "Recording":
        """Read what `save` wrote.

        Raises:
            RecordingError: no such file, not a recording, damaged, or of a newer format.
        """
        try:
            with safe_open(path, framework="pt") as file:
                metadata = _checked_metadata(file.metadata(), path)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except FileNotFoundError as error:
            raise RecordingError(f"{path} does not exist: give a file that save() wrote") from error
        except (SafetensorError, OSError) as error:
            raise RecordingError(
                f"{path} is not a whole safetensors file ({error}): save the recording again"
            ) from error
        return _rebuilt(cls, metadata, tensors, path)

    def to_xarray(self) -> "xarray.Dataset":
        """The activations as an `xarray.Dataset` with named dimensions and token texts.

        A hook recorded in every layer, or in every layer with experts, becomes one variable
        named after the hook, such as `attn.hook_rot_q`, with a `layer` (or `moe_layer`)
        dimension; one recorded in some layers keeps its full name, layer by layer.
        """
        return to_xarray(self.activations, self.config, self.tokens, self.token_ids)


def _checked_metadata(header: Mapping[str, str] | None, path: str | Path) -> dict[str, Any]:
    try:
        metadata = json.loads((header or {})["qwen3lab"])
        number = int(metadata["format"])
    except DAMAGES as error:
        raise RecordingError(
            f"{path} is a safetensors file but not a recording: give a file that "
            "Recording.save wrote"
        ) from error
    if number > FORMAT:
        raise RecordingError(
            f"{path} has format {number}, and this qwen3lab reads up to {FORMAT}: "
            "upgrade qwen3lab to read it"
        )
    return metadata


def _rebuilt(
    cls: type[Recording], metadata: dict[str, Any], tensors: dict[str, Tensor], path: str | Path
) -> Recording:
    try:
        config = Qwen3Config.from_dict(metadata["config"])
        token_ids, tokens = tensors.pop("token_ids"), list(metadata["tokens"])
        spans = {name: (int(a), int(b)) for name, (a, b) in metadata["spans"].items()}
        missing = set(metadata["capture"]) ^ set(tensors)
        if missing or len(tokens) != len(token_ids):
            raise KeyError(", ".join(sorted(missing)) or "tokens")
        for name, (start, stop) in spans.items():
            if not 0 <= start <= stop <= len(tokens):
                raise ValueError(f"{name} is {start} to {stop} of {len(tokens)} tokens")
        return cls(token_ids, tokens, config, str(metadata["model_name"]), tensors, spans)
    except DAMAGES as error:
        raise RecordingError(
            f"{path} is a damaged recording ({error}): save the recording again"
        ) from error


class Recorder:
    """A tap that keeps activations of one or more passes, and cuts them into recordings.

    Those of a GPU are brought to the host while it goes on.

    Args:
        names: hook names to keep.
        dtype: of what is kept, where it is a floating-point number; as it ran if None.
    """

    def __init__(self, names: Iterable[str], *, dtype: torch.dtype | None = None) -> None:
        self.pieces: dict[str, list[Tensor]] = {name: [] for name in names}
        self.has_maps = any(name.endswith(MAPS) for name in self.pieces)
        self.dtype = dtype
        self._offload = Offload()
        self._deliver: Callable[[], None] | None = None

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Keep the activation, detached, and return it unchanged."""
        if name in self.pieces:
            self._take(name, value.detach() if value.requires_grad else value)
        return value

    def keep(self, names: Sequence[str], values: Shaped[Tensor, "hook batch pos *any"]) -> None:
        """Keep activations of several hooks, which come as one tensor."""
        for name, value in zip(names, values, strict=True):
            self._take(name, value)

    def expect(self, deliver: Callable[[], None]) -> None:
        """Have something called once before what was kept is read: it brings what is on its way."""
        self._deliver = deliver

    def _have_delivered(self) -> None:
        # Once: whoever delivers may be at work for another recorder by the next time.
        deliver, self._deliver = self._deliver, None
        if deliver is not None:
            deliver()

    def _take(self, name: str, value: Tensor) -> None:
        converts = self.dtype is not None and value.is_floating_point()
        self._offload.take(value.to(self.dtype) if converts else value, self.pieces[name])

    def wants(self, name: str) -> bool:
        """True if the name is kept."""
        return name in self.pieces

    @property
    def n_complete(self) -> int:
        """Positions for which every hook has been kept; an interrupted pass does not count."""
        self._have_delivered()
        totals = [
            sum(piece.shape[2 if name.endswith(MAPS) else 1] for piece in pieces)
            for name, pieces in self.pieces.items()
        ]
        return min(totals, default=0)

    def wait(self) -> None:
        """Wait until what was kept is complete: before `pieces` are read."""
        self._have_delivered()
        self._offload.wait()

    def cut(self, spans: Sequence[tuple[int, int]]) -> list[dict[str, Tensor]]:
        """The prompts' activations on the CPU; the recorder is empty afterwards.

        Hook after hook is let go of as it is cut, so that there are never two copies of all.

        Args:
            spans: first and past-the-end position of each row.
        """
        self.wait()
        # What came from a GPU lies beside other hooks of its run, which stay as long.
        lies_well = self._offload.has_copied and len(spans) == 1
        cuts: list[dict[str, Tensor]] = [{} for _ in spans]
        for name, pieces in self.pieces.items():
            if lies_well and len(pieces) == 1 and spans[0] == (0, pieces[0].shape[1]):
                cuts[0][name] = pieces[0][0].cpu()
            else:
                for row, span in enumerate(spans):
                    cuts[row][name] = _cut(name, [piece[row] for piece in pieces], slice(*span))
            pieces.clear()
        return cuts


def _cut(name: str, pieces: list[Tensor], span: slice) -> Tensor:
    """One row's pieces of successive passes as one tensor, its own positions alone."""
    if not name.endswith(MAPS):
        return _alone(_in_a_row(pieces)[span])
    n_keys, nothing = pieces[-1].shape[-1], -torch.inf if name.endswith("scores") else 0.0
    padded = [F.pad(piece, (0, n_keys - piece.shape[-1]), value=nothing) for piece in pieces]
    whole = _in_a_row([piece.transpose(0, 1) for piece in padded])
    return _alone(whole.transpose(0, 1)[:, span, span])


def _in_a_row(pieces: list[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces)


def _alone(value: Tensor) -> Tensor:
    """On the CPU, and copied only where it would hold on to memory that is not its own."""
    shares = value.untyped_storage().nbytes() > value.nbytes
    return value.to("cpu", copy=shares)
