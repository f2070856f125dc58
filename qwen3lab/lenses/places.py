"""Places of the residual stream that a lens reads: which hooks, and the name of each row."""

from collections.abc import Sequence
from dataclasses import dataclass

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError, RecordingError
from qwen3lab.hooks.points import resolve_hooks
from qwen3lab.recording.recording import Recording
from qwen3lab.translation import tr

READABLE = {
    "resid_pre": ("hook_resid_pre", "before layer"),
    "resid_mid": ("hook_resid_mid", "within layer"),
    "resid_post": ("hook_resid_post", "layer"),
    "attn_out": ("hook_attn_out", "attention"),
    "mlp_out": ("hook_mlp_out", "mlp"),
    "result": ("attn.hook_result", "head"),
    "expert_out": ("mlp.hook_expert_out", "expert choice"),
}
"""Short name of each readable hook, its full name within a block, and how its rows are called."""

NEEDED = ("blocks.*.hook_resid_post",)
"""Hooks to record for a lens of every layer: `lab.record(prompt, capture=lenses.NEEDED)`."""


@dataclass(frozen=True)
class Place:
    """One row of a lens: a vector in the residual stream, or what a part writes to it.

    Attributes:
        hook: full name of the hook.
        layer: of the hook.
        index: the head, or the place of the expert in the token's choice; None for other hooks.
    """

    hook: str
    layer: int
    index: int | None = None

    @property
    def name(self) -> str:
        """Such as `layer 3`, `within layer 3` or `head 3.0`."""
        kind = next(kind for ending, kind in READABLE.values() if self.hook.endswith(ending))
        return f"{kind} {self.layer}" + ("" if self.index is None else f".{self.index}")


def needed(hooks: str | Sequence[str] = "resid_post") -> tuple[str, ...]:
    """The hooks to record for a lens that reads these.

    Args:
        hooks: as in `logit_lens`.

    Example:
        >>> from qwen3lab import lenses
        >>> lenses.needed(["resid_mid", "resid_post"])
        ('blocks.*.hook_resid_mid', 'blocks.*.hook_resid_post')
    """
    return tuple(_pattern(hook) for hook in ([hooks] if isinstance(hooks, str) else hooks))


def _pattern(hook: str) -> str:
    short = str(hook).removeprefix("hook_")
    return f"blocks.*.{READABLE[short][0]}" if short in READABLE else hook


def readable_hooks(hooks: str | Sequence[str], config: Qwen3Config) -> list[str]:
    """Full names of the hooks that a lens shall read, in the order of the forward pass.

    Raises:
        HookError: the model has no such hook, or its values are not in the residual stream.
    """
    names = resolve_hooks(needed(hooks), config)
    if not names:
        raise HookError(tr("there is no hook to read: expected at least one, such as 'resid_post'"))
    endings = tuple(ending for ending, _ in READABLE.values())
    if wrong := [name for name in names if not name.endswith(endings)]:
        raise HookError(
            tr(
                "{wrong!r} is not in the residual stream, so the unembedding cannot read "
                "it: choose from {readable}",
                wrong=wrong[0],
                readable=", ".join(READABLE),
            )
        )
    return names


def recorded_places(recording: Recording, hooks: Sequence[str]) -> tuple[Place, ...]:
    """A row for each hook; one for each head or chosen expert where a hook has several.

    Raises:
        RecordingError: a hook was not recorded.
    """
    missing = [hook for hook in hooks if hook not in recording]
    if missing:
        short = next(s for s, (ending, _) in READABLE.items() if missing[0].endswith(ending))
        raise RecordingError(
            tr(
                "{missing} was not recorded: record with capture=lenses.needed({short!r})",
                missing=missing[0],
                short=short,
            )
        )
    return tuple(place for hook in hooks for place in _places(recording, hook))


def _places(recording: Recording, hook: str) -> list[Place]:
    layer, shape = int(hook.split(".")[1]), recording.raw(hook).shape
    if len(shape) == 2:
        return [Place(hook, layer)]
    return [Place(hook, layer, index) for index in range(shape[1])]
