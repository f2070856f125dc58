"""The reference: the same weights in the modules of `transformers`, whole or one layer at a time.

Whole, `transformers` opens the folder itself. Layer by layer, its decoder layers are filled one
after another from the checkpoint's files, so that memory for one layer suffices beside our model.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from qwen3lab.device.grad_mode import without_grad
from qwen3lab.errors import CheckpointError
from qwen3lab.translation import tr

ReadTensor = Callable[[str], Tensor]
"""Gives a stored tensor by its published name; a KeyError if there is none."""


@dataclass(frozen=True)
class Reference:
    """The modules of a `transformers` model, in the order of the forward pass.

    Attributes:
        embed: the token embedding.
        layers: gives the decoder layers in turn; each is valid until the next is asked for.
        norm: the final norm.
        head: the unembedding.
        rotary: computes cosine and sine of the rotary angles.
        how: how the weights got into the modules, for the report.
    """

    embed: nn.Module
    layers: Callable[[], Iterator[nn.Module]]
    norm: nn.Module
    head: nn.Module
    rotary: nn.Module
    how: str


@without_grad
def open_whole(folder: Path, *, device: torch.device, dtype: torch.dtype) -> Reference:
    """The model as `transformers` opens the folder itself.

    Raises:
        CheckpointError: `transformers` does not open the folder.
    """
    from transformers import AutoModelForCausalLM

    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="eager", trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        raise CheckpointError(
            tr(
                "transformers does not open {folder} ({reason}): compare layer by layer, "
                "with --layered",
                folder=folder,
                reason=_first_line(error),
            )
        ) from error
    model.config._experts_implementation = "eager"
    model = model.to(device).eval()
    inner = model.model
    return Reference(
        inner.embed_tokens,
        lambda: iter(inner.layers),
        inner.norm,
        model.lm_head,
        inner.rotary_emb,
        "whole, opened by itself",
    )


@without_grad
def open_layered(
    folder: Path,
    *,
    device: torch.device,
    dtype: torch.dtype,
    decoded: ReadTensor | None = None,
) -> Reference:
    """The modules of `transformers`, filled from the checkpoint's files one layer at a time.

    Args:
        folder: of the checkpoint.
        device: of the modules.
        dtype: of the weights.
        decoded: reads tensors that are not stored as they are, such as those of a quantised
            checkpoint; None reads the safetensors files with the `safetensors` package.

    Raises:
        CheckpointError: a tensor that the modules need is not in the checkpoint.
    """
    model = _empty_model(folder)
    read = _reader_of_files(folder) if decoded is None else decoded
    inner = model.model
    place: dict[str, Any] = {"device": device, "dtype": dtype}

    def layers() -> Iterator[nn.Module]:
        for number, layer in enumerate(inner.layers):
            _fill(layer, f"model.layers.{number}.", read, **place)
            yield layer
            layer.to("meta")

    _fill(inner.embed_tokens, "model.embed_tokens.", _either(read), **place)
    _fill(inner.norm, "model.norm.", read, **place)
    head = nn.Linear(1, 1, bias=False, device="meta")
    try:
        _fill(head, "lm_head.", read, **place)
    except CheckpointError:
        if not model.config.tie_word_embeddings:
            raise
        head.weight = inner.embed_tokens.weight
    rotary = type(inner.rotary_emb)(config=model.config).to(device)
    how = "read with safetensors" if decoded is None else "decoded by qwen3lab"
    return Reference(inner.embed_tokens, layers, inner.norm, head, rotary, f"{how}, layer by layer")


def causal_mask(tokens: int, like: Tensor) -> Float[Tensor, "1 1 query key"]:
    """The mask that eager attention of `transformers` adds to its scores."""
    least = torch.finfo(like.dtype).min
    full = torch.full((tokens, tokens), least, device=like.device, dtype=like.dtype)
    return full.triu(1)[None, None]


def angles(reference: Reference, ids: Int[Tensor, "1 pos"], like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine for the positions of a prompt, in the dtype of `like`."""
    positions = torch.arange(ids.shape[1], device=like.device)[None]
    return reference.rotary(like, positions)


def _empty_model(folder: Path) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        if getattr(config, "quantization_config", None) is not None:
            delattr(config, "quantization_config")
        config._experts_implementation = "eager"
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            tr(
                "transformers does not read the config of {folder} ({reason}): update "
                "transformers, or correct config.json",
                folder=folder,
                reason=_first_line(error),
            )
        ) from error
    return model.eval()


def _fill(
    module: nn.Module,
    prefix: str,
    read: ReadTensor,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> None:
    """Give every parameter of a module its stored values."""
    for name, parameter in list(module.named_parameters()):
        try:
            value = _stored(f"{prefix}{name}", parameter, read, device=device, dtype=dtype)
        except KeyError as error:
            raise CheckpointError(
                tr(
                    "transformers needs {prefix}{name}, which is not in the checkpoint: fetch its "
                    "files again, or see that they belong together",
                    prefix=prefix,
                    name=name,
                )
            ) from error
        owner, leaf = name.rpartition(".")[::2]
        setattr(module.get_submodule(owner), leaf, nn.Parameter(value, requires_grad=False))


def _stored(
    name: str,
    parameter: Tensor,
    read: ReadTensor,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """A parameter's values; experts that are stored one by one are stacked, gate above up."""
    place: dict[str, Any] = {"device": device, "dtype": dtype}
    try:
        return read(name).to(**place)
    except KeyError:
        fused = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
        path, leaf = name.rpartition(".")[::2]
        if not path.endswith(".experts") or leaf not in fused:
            raise
    stacked = torch.empty(parameter.shape, **place)
    for expert, out in enumerate(stacked):
        parts = [read(f"{path}.{expert}.{part}.weight") for part in fused[leaf]]
        out.copy_(torch.cat(parts))
    return stacked


def _either(read: ReadTensor) -> ReadTensor:
    """A reader of the embedding, which a tied checkpoint may store as `lm_head.weight` alone."""

    def found(name: str) -> Tensor:
        try:
            return read(name)
        except KeyError:
            return read("lm_head.weight")

    return found


def _reader_of_files(folder: Path) -> ReadTensor:
    """Reads tensors with the `safetensors` package, and none of our own code."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    try:
        if single.exists():
            with safe_open(single, "pt") as file:
                file_of = dict.fromkeys(file.keys(), single)
        else:
            listed = json.loads(index.read_text("utf-8"))["weight_map"]
            file_of = {name: folder / Path(file).name for name, file in listed.items()}
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise CheckpointError(
            tr(
                "the weights of {folder} cannot be read ({reason}): fetch them again",
                folder=folder,
                reason=_first_line(error),
            )
        ) from error

    opened: dict[Path, Any] = {}

    def read(name: str) -> Tensor:
        stored = name if name in file_of else name.removeprefix("model.")
        path = file_of[stored]
        if path not in opened:
            opened[path] = safe_open(path, "pt")
        return opened[path].get_tensor(stored)

    return read


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
