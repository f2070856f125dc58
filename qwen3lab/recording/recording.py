"""Recordings: the tokens and activations of one run of a model.

A recording has activations by hook name. Attention is stored as rotated queries and keys, whose
size is linear in the tokens; an attention pattern is computed from them on access.
"""

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qwen3lab.arguments import Count, argument, checked
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.display import Page, one_line, shortened
from qwen3lab.errors import HookError, RecordingError
from qwen3lab.hooks.points import hook_names, resolve_hooks
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.recording.on_disk import LOGITS, OnDisk
from qwen3lab.recording.recording_file import FORMAT, TOKEN_IDS, read_recording
from qwen3lab.recording.rendered_logits import (
    HasModel,
    OutputHead,
    RenderedLogits,
    TopTokens,
    next_token_logprobs,
    stream_hook,
    top_tokens,
)
from qwen3lab.recording.views import AttentionView, RoutingView
from qwen3lab.recording.xarray_export import to_xarray
from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.storage.checked_tensors import save_checked
from qwen3lab.translation import tr, tr_count

if TYPE_CHECKING:
    import xarray


MAX_TEXT_CHARACTERS, MAX_FACT_CHARACTERS = 600, 100
"""Length limits of the text and of each fact in a recording's notebook summary."""


@dataclass(frozen=True, eq=False)
class Recording(EqualByValue):
    """The tokens and recorded activations of one prompt.

    Two recordings are equal if all of their values are. Tensors from indexing, `logits`,
    `attention` and `routing` are copies; `raw` returns the recording's own memory.

    Attributes:
        token_ids: token id of every position.
        tokens: readable text of every token.
        config: of the model that ran.
        model_name: name or path that the model was loaded from.
        capture: recorded hooks, in the order of the forward pass.
        activations: by hook name, without the batch axis, in their recorded dtype.
        spans: named ranges of tokens, such as "thinking" of a chat: first and past-the-end
            position.
        head: final norm and unembedding of the model, which `logits` are computed with where the
            vocabulary is too large to keep them; the memory is the model's. None for a recording
            that was loaded without a lab.
        adapter: name, strength, rank, alpha and modules of the LoRA adapters that were in force;
            empty for none.
    """

    token_ids: Int[Tensor, " token"]
    tokens: list[str]
    config: Qwen3Config
    model_name: str
    activations: Mapping[str, Tensor]
    spans: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    head: OutputHead | None = field(default=None, repr=False, compare=False)
    adapter: str = ""

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.token_ids):
            raise RecordingError(
                tr(
                    "the recording has {n_token_ids} token ids and {n_tokens} texts: "
                    "expected one text per token",
                    n_token_ids=len(self.token_ids),
                    n_tokens=len(self.tokens),
                )
            )

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, name: object) -> bool:
        """True if a hook was recorded."""
        return isinstance(name, str) and name in self.activations

    def __iter__(self) -> Iterator[str]:
        raise RecordingError(
            tr("a recording is not a sequence: iterate over its tokens, or over its capture")
        )

    def __repr__(self) -> str:
        return tr(
            "Recording of {counted} by {model_name}: {n_activations} hook points, {size:.1f} MiB",
            counted=tr_count("{n:,} token", "{n:,} tokens", len(self)),
            model_name=one_line(self.model_name),
            n_activations=len(self.activations),
            size=self._n_bytes / 2**20,
        )

    def _repr_html_(self) -> str:
        routed = self.config.moe_layers
        facts = {
            tr("hook points"): str(len(self.activations)),
            tr("size"): f"{self._n_bytes / 2**20:.1f} MiB",
            tr("attention"): tr(
                "{n} of {all} layers",
                n=len(self.attention.layers),
                all=self.config.n_layers,
            ),
            **({tr("adapter"): self.adapter} if self.adapter else {}),
            **({tr("experts in layers"): ", ".join(map(str, routed))} if routed else {}),
            **{
                tr(name): tr("tokens {start} to {end}", start=start, end=end)
                for name, (start, end) in self.spans.items()
            },
        }
        page = Page().heading(
            tr(
                "Recording of {counted} by {model_name}",
                counted=tr_count("{n:,} token", "{n:,} tokens", len(self)),
                model_name=self.model_name,
            )
        )
        page.facts(
            {name: one_line(fact, width=MAX_FACT_CHARACTERS) for name, fact in facts.items()}
        )
        page.text(shortened("".join(self.tokens), MAX_TEXT_CHARACTERS), boxed=True)
        return page.note(
            tr("tokens, logits, attention[layer, head], routing.layer(n), [hook name]")
        ).render()

    @property
    def _n_bytes(self) -> int:
        if isinstance(self.activations, OnDisk):
            return self.activations.n_bytes()
        return sum(value.nbytes for value in self.activations.values())

    @property
    def capture(self) -> tuple[str, ...]:
        """Recorded hooks, in the order of the forward pass."""
        return self._in_order(self.activations)

    def _in_order(self, names: Container[str]) -> tuple[str, ...]:
        return tuple(name for name in hook_names(self.config) if name in names)

    def __getitem__(self, name: str) -> Tensor:
        """A copy of an activation, without the batch axis, on the CPU; floats are float32.

        Raises:
            HookError: the model has no such hook.
            RecordingError: the hook exists but was not recorded.
        """
        value = self.raw(name)
        kind = torch.float32 if value.is_floating_point() else value.dtype
        # Activations on disk are read anew for each access, so they are not copied again.
        return value.to(kind, copy=not isinstance(self.activations, OnDisk))

    def raw(self, name: str) -> Tensor:
        """An activation in its recorded dtype; raises the same errors as indexing.

        It is the recording's own memory: read it, but do not write to it.
        """
        if not isinstance(name, str):
            raise HookError(
                tr(
                    "a recording is indexed by the name of a hook, not by type {kind}: "
                    "use attention[layer, head] or routing.layer(n) for layers",
                    kind=type(name).__name__,
                )
            )
        if name not in self.activations:
            resolve_hooks(name, self.config)
            raise RecordingError(
                tr("{name} was not recorded: record again with capture=[{name!r}] added", name=name)
            )
        return self.activations[name]

    @property
    def logits(self) -> Float[Tensor, "token vocab"]:
        """Logits of the next token at every position, float32.

        For a large vocabulary they are computed on access, from the residual stream: index them by
        position, as in `logits[5]` or `logits[-10:]`, to compute only those.

        Raises:
            RecordingError: they were not recorded, or the model's unembedding is not there.
            HeadlessError: the model has no unembedding, as an embedding model.
        """
        self.config.require_unembedding()
        stream = stream_hook(self.config)
        if LOGITS in self.activations or stream not in self.activations:
            return self[LOGITS]
        if self.head is None:
            raise RecordingError(
                tr(
                    "this recording has no logits, and its file has no unembedding to "
                    "compute them with: load it with Recording.load(path, lab=lab), or save "
                    "it with logits=True"
                )
            )
        return RenderedLogits(self.raw(stream), self.head)

    def logprobs(self) -> Float[Tensor, " next_token"]:
        """Natural log-probability of each token but the first, given the tokens before it.

        Raises:
            RecordingError: as `logits`.
        """
        return next_token_logprobs(self.logits, self.token_ids)

    @checked
    def top(self, k: Count = 5) -> TopTokens:
        """The `k` most probable next tokens at every position.

        Raises:
            RecordingError: as `logits`.
            ValueError: `k` is larger than the vocabulary.

        Example:
            >>> import qwen3lab
            >>> top = qwen3lab.load("tiny-moe").record("3+4=?").top(3)
            >>> top.token_ids.shape  # token, k
            torch.Size([4, 3])
        """
        return top_tokens(self.logits, k)

    @property
    def attention(self) -> AttentionView:
        """Attention patterns, computed on access."""
        return AttentionView(self.config, self.activations, self.tokens, self.model_name)

    @property
    def routing(self) -> RoutingView:
        """Router logits, chosen experts and weights; empty for a model without experts."""
        return RoutingView(self.config, self.activations, self.tokens, self.model_name)

    @checked
    def save(self, path: str | Path, *, logits: bool = False) -> None:
        """Write the recording to a safetensors file; `Recording.load` reads it.

        Args:
            path: of the file.
            logits: write the logits, too, where they are computed on access; the file then needs
                no model. Qwen3's vocabulary takes 297 KiB a token in bfloat16.

        Raises:
            RecordingError: the file cannot be written; no partial file remains.

        Example:
            >>> import qwen3lab
            >>> rec = qwen3lab.load("tiny-moe").record("3+4=?")
            >>> rec.save("run.safetensors")
            >>> qwen3lab.Recording.load("run.safetensors").tokens == rec.tokens
            True
        """
        seen: set[int] = set()
        tensors = {TOKEN_IDS: self.token_ids}
        for name, value in self.activations.items():
            # safetensors refuses tensors that share memory, as hooks of the residual stream do.
            shared = value.untyped_storage().data_ptr() in seen
            seen.add(value.untyped_storage().data_ptr())
            tensors[name] = value.clone() if shared else value
        if logits and LOGITS not in tensors:
            dtype = tensors[stream_hook(self.config)].dtype
            tensors[LOGITS] = self.logits[:].to(dtype)
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        metadata = self._metadata() | {"capture": self._in_order(tensors)}
        if LOGITS not in tensors and self.head is not None:
            metadata["output_head"] = self.head.fingerprint()
        with whole_file(Path(path), error=RecordingError) as part:
            save_checked(contiguous, part, {"qwen3lab": json.dumps(metadata)})

    def _metadata(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": version("qwen3lab"),
            "model_name": self.model_name,
            "config": self.config.to_dict(),
            "tokens": self.tokens,
            "spans": self.spans,
            **({tr("adapter"): self.adapter} if self.adapter else {}),
        }

    @classmethod
    def load(cls, path: str | Path, *, lab: HasModel | None = None) -> "Recording":
        """Read a recording that `save` wrote.

        Args:
            path: of the file.
            lab: the lab that made the recording; needed for logits that are computed on access.

        Raises:
            RecordingError: the file does not exist, is no recording, is damaged, or has a newer
                format. Names, dtypes, shapes and ranges are checked, and a checksum of each tensor
                and of the metadata. Or the lab has another final norm or unembedding.
        """
        path = argument(str | Path, "path", path)
        fields, output_head = read_recording(Path(path))
        has_head = lab is not None and lab.model.config.has_unembedding
        head = OutputHead.of(lab.model) if lab is not None and has_head else None
        if head is not None and output_head not in (None, head.fingerprint()):
            raise RecordingError(
                tr(
                    "{path} was recorded with another final norm or unembedding than that of "
                    "the lab: give the lab of the same weights",
                    path=path,
                )
            )
        return cls(**fields, head=head)

    def to_xarray(self) -> "xarray.Dataset":
        """The activations as an `xarray.Dataset` with named dimensions and token texts.

        A hook that was recorded in every layer, or in every layer with experts, becomes one
        variable named after the hook, such as `attn.hook_rot_q`, with a `layer` (or `moe_layer`)
        dimension. A hook that was recorded in some layers becomes one variable per layer, with its
        full name.
        """
        return to_xarray(self.activations, self.config, self.tokens, self.token_ids)
