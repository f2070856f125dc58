"""The tap: how activations leave a forward pass, and how edits enter it.

A forward pass hands every named activation to its tap, `x = tap("blocks.3.hook_resid_post", x)`,
and goes on with what comes back. The tap is an argument, so nothing is ever registered on the
model: no hook can be left behind, and two runs cannot disturb each other.

`HOOK_POINTS` is the one table of names; they follow TransformerLens.
"""

import difflib
import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor

from qwen3lab.config import Qwen3Config

Edit = Callable[[Tensor, str], Tensor | None]
"""Given an activation and its hook name, returns a replacement, or None to leave it.

One that has a method `settled` is told what became of the activation once all others have acted.
"""


@runtime_checkable
class Settling(Protocol):
    """An edit that is told what became of the activation."""

    def settled(self, value: Tensor, name: str) -> None:
        """See the activation once all edits have acted."""
        ...


class HookError(ValueError):
    """A hook that no model has, or an edit that does not fit; the message says which."""


@runtime_checkable
class Intervention(Protocol):
    """Edits that belong together, and that may know where in a text they are."""

    def edits(self, config: Qwen3Config, padding: Sequence[int]) -> Mapping[str, Edit]:
        """Edits for one run, by hook name or glob.

        Args:
            config: of the model that runs.
            padding: how many positions stand before each row's own first token.

        Raises:
            HookError: the intervention does not fit the model.
        """
        ...


AnyEdits = Mapping[str, Edit] | Intervention | Sequence[Mapping[str, Edit] | Intervention]
"""Hook names or globs to edits, an intervention, or several of these, to act in their order."""


@runtime_checkable
class Tap(Protocol):
    """What a forward pass hands its named activations to."""

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Take the activation, and return it or another that shall stand in its place.

        It is not to be changed itself: its memory may serve other hooks.
        """
        ...

    def wants(self, name: str) -> bool:
        """True if the tap reads or edits `name`; costly activations are made only then."""
        ...


@dataclass(frozen=True)
class HookPoint:
    """One row of the table: `pattern` has `{l}` for the layer."""

    pattern: str
    axes: str
    meaning: str
    where: Literal["all", "dense", "moe"] = "all"
    on_request: bool = False


def _norm(pattern: str, of: str) -> tuple[HookPoint, HookPoint]:
    return (
        HookPoint(f"{pattern}.hook_scale", "batch pos 1", f"root mean square of {of}"),
        HookPoint(f"{pattern}.hook_normalized", "batch pos d_model", f"normalised {of}"),
    )


_STREAM = "batch pos d_model"
_MLP = "batch pos d_mlp"

HOOK_POINTS: tuple[HookPoint, ...] = (
    HookPoint("hook_embed", _STREAM, "token embeddings"),
    HookPoint("blocks.{l}.hook_resid_pre", _STREAM, "residual stream entering the block"),
    *_norm("blocks.{l}.ln1", "the attention's input"),
    HookPoint("blocks.{l}.attn.hook_q", "batch pos head d_head", "queries before QK-norm"),
    HookPoint("blocks.{l}.attn.hook_k", "batch pos kv_head d_head", "keys before QK-norm"),
    HookPoint("blocks.{l}.attn.hook_v", "batch pos kv_head d_head", "values"),
    HookPoint(
        "blocks.{l}.attn.hook_rot_q", "batch pos head d_head", "queries, QK-normed and rotated"
    ),
    HookPoint(
        "blocks.{l}.attn.hook_rot_k", "batch pos kv_head d_head", "keys, QK-normed and rotated"
    ),
    HookPoint(
        "blocks.{l}.attn.hook_attn_scores",
        "batch head query key",
        "attention scores, scaled and masked",
        on_request=True,
    ),
    HookPoint(
        "blocks.{l}.attn.hook_pattern",
        "batch head query key",
        "attention pattern, rows sum to 1",
        on_request=True,
    ),
    HookPoint("blocks.{l}.attn.hook_z", "batch pos head d_head", "values mixed by the pattern"),
    HookPoint(
        "blocks.{l}.attn.hook_result",
        "batch pos head d_model",
        "what each head writes to the residual stream",
        on_request=True,
    ),
    HookPoint("blocks.{l}.hook_attn_out", _STREAM, "what attention writes"),
    HookPoint("blocks.{l}.hook_resid_mid", _STREAM, "residual stream between attention and MLP"),
    *_norm("blocks.{l}.ln2", "the MLP's input"),
    HookPoint("blocks.{l}.mlp.hook_pre", _MLP, "gate projection before SiLU", "dense"),
    HookPoint("blocks.{l}.mlp.hook_pre_linear", _MLP, "up projection", "dense"),
    HookPoint("blocks.{l}.mlp.hook_post", _MLP, "SiLU(gate) times up", "dense"),
    HookPoint(
        "blocks.{l}.mlp.hook_router_logits",
        "batch pos expert",
        "router logits before the softmax",
        "moe",
    ),
    HookPoint(
        "blocks.{l}.mlp.hook_expert_indices",
        "batch pos k",
        "top-k experts; an edit may give more or fewer, and -1 for a slot that stays empty",
        "moe",
    ),
    HookPoint(
        "blocks.{l}.mlp.hook_expert_weights",
        "batch pos k",
        "weights as applied, after top-k and renormalisation "
        "(TransformerLens 4 has them at their experts' places, and 0 at all others)",
        "moe",
    ),
    HookPoint(
        "blocks.{l}.mlp.hook_expert_out",
        "batch pos k d_model",
        "each chosen expert's output before weighting",
        "moe",
        on_request=True,
    ),
    HookPoint("blocks.{l}.hook_mlp_out", _STREAM, "what the MLP or the experts write"),
    HookPoint("blocks.{l}.hook_resid_post", _STREAM, "residual stream leaving the block"),
    *_norm("ln_final", "the unembedding's input"),
    HookPoint("hook_unembed", "batch pos vocab", "the logits"),
)


def hook_names(config: Qwen3Config) -> dict[str, HookPoint]:
    """Every hook name that a model of this shape has, in the order in which it meets them."""
    names: dict[str, HookPoint] = {}
    before = [p for p in HOOK_POINTS if p.pattern == "hook_embed"]
    block = [p for p in HOOK_POINTS if "{l}" in p.pattern]
    after = [p for p in HOOK_POINTS if "{l}" not in p.pattern and p not in before]
    for point in before:
        names[point.pattern] = point
    for layer in range(config.n_layers):
        kind = "moe" if layer in config.moe_layers else "dense"
        for point in block:
            if point.where in ("all", kind):
                names[point.pattern.format(l=layer)] = point
    for point in after:
        names[point.pattern] = point
    return names


def resolve_hooks(wanted: str | Iterable[str], config: Qwen3Config) -> list[str]:
    """Hook names meant by exact names, globs (`blocks.*.hook_resid_post`), or "all".

    Returns:
        Names in the model's order, each once.

    Raises:
        HookError: a name or glob that matches nothing; the nearest real names are given.
    """
    known = hook_names(config)
    patterns = [wanted] if isinstance(wanted, str) else list(wanted)
    chosen: set[str] = set()
    for pattern in patterns:
        hits = known if pattern == "all" else fnmatch.filter(known, pattern)
        if not hits:
            raise HookError(_unknown(pattern, known, config))
        chosen.update(hits)
    return [name for name in known if name in chosen]


def _unknown(name: str, known: Mapping[str, HookPoint], config: Qwen3Config) -> str:
    parts = re.match(r"blocks\.(\d+)\.(.*)", name)
    if parts and int(parts[1]) >= config.n_layers:
        return f"{name!r} does not exist: the model has layers 0 to {config.n_layers - 1}"
    if parts and (other := _where_it_is(parts[2], config)):
        kind = "has experts" if int(parts[1]) in config.moe_layers else "is dense"
        return f"{name!r} does not exist: layer {parts[1]} {kind}, and {other}"
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"the nearest are {', '.join(near)}" if near else "see qwen3lab.hooks.HOOK_POINTS"
    return f"no hook of this model matches {name!r}: {hint}"


def _where_it_is(inner: str, config: Qwen3Config) -> str:
    """Which layers have a hook that only dense ones, or only those with experts, have."""
    kinds = {point.pattern: point.where for point in HOOK_POINTS}
    kind = kinds.get(f"blocks.{{l}}.{inner}")
    if kind not in ("dense", "moe"):
        return ""
    layers = [i for i in range(config.n_layers) if (i in config.moe_layers) == (kind == "moe")]
    if not layers:
        return f"no layer of this model {'has experts' if kind == 'moe' else 'is dense'}"
    are = "have experts" if kind == "moe" else "are dense"
    return f"only layers {', '.join(map(str, layers))} {are}"


class NoTap:
    """The tap that does nothing."""

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Return the activation as it is."""
        return value

    def wants(self, name: str) -> bool:
        """Nothing is wanted."""
        return False


class Keep:
    """A tap that keeps the activations it is asked for, in `kept`."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)
        self.kept: dict[str, Tensor] = {}

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Keep a wanted activation, detached, and return it unchanged."""
        if name in self.names:
            self.kept[name] = value.detach()
        return value

    def wants(self, name: str) -> bool:
        """True if the name is kept."""
        return name in self.names


class Edits:
    """A tap that replaces activations: hook names or globs to edit functions.

    Args:
        edits: what to replace.
        config: of the model that runs.
        padding: how many positions stand before each row's own first token.

    Raises:
        HookError: on creation for a name that no model of this shape has; during the forward
            pass for a replacement of another shape.
    """

    def __init__(
        self, edits: AnyEdits, config: Qwen3Config, *, padding: Sequence[int] = (0,)
    ) -> None:
        self.edits: dict[str, list[Edit]] = {}
        self.n_experts = config.n_experts
        for given in _joined([edits] if isinstance(edits, Mapping | Intervention) else edits):
            named = given if isinstance(given, Mapping) else given.edits(config, padding)
            for pattern, edit in named.items():
                for name in resolve_hooks(pattern, config):
                    self.edits.setdefault(name, []).append(edit)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Apply the edits of this name in the order in which they were given."""
        for edit in self.edits.get(name, ()):
            # A copy: the same memory may serve other hooks, and an edit may write in place.
            value = self._checked(edit(value.clone(), name), value, name)
        for edit in self.edits.get(name, ()):
            if isinstance(edit, Settling):
                edit.settled(value, name)
        return value

    def wants(self, name: str) -> bool:
        """True if the name is edited."""
        return name in self.edits

    def _checked(self, new: object, old: Tensor, name: str) -> Tensor:
        if new is None:
            return old
        if not isinstance(new, Tensor):
            raise HookError(
                f"the edit of {name} returned a {type(new).__name__}: expected a tensor or None"
            )
        new = new.to(dtype=old.dtype, device=old.device)
        if name.endswith("hook_expert_indices"):
            return _checked_experts(new, old, name, self.n_experts)
        if new.shape != old.shape:
            raise HookError(
                f"the edit of {name} returned shape {tuple(new.shape)}: "
                f"expected {tuple(old.shape)}, the shape it was given"
            )
        return new


def _joined(
    edits: Iterable[Mapping[str, Edit] | Intervention],
) -> list[Mapping[str, Edit] | Intervention]:
    """The same, where neighbours of a kind that can be added act as their sum: as one."""
    found: list[Any] = []
    for given in edits:
        if found and type(given) is type(found[-1]) and hasattr(given, "__add__"):
            given = found.pop() + given
        found.append(given)
    return found


def _checked_experts(new: Tensor, old: Tensor, name: str, n_experts: int) -> Tensor:
    """Tokens may be given more experts or fewer; -1 leaves a slot empty."""
    if new.shape[:-1] != old.shape[:-1] or new.shape[-1] < 1:
        raise HookError(
            f"the edit of {name} returned shape {tuple(new.shape)}: expected "
            f"{tuple(old.shape[:-1])}, the shape it was given, and at least one expert each"
        )
    if bool(((new < -1) | (new >= n_experts)).any()):
        raise HookError(
            f"the edit of {name} returned an expert that does not exist: expected 0 to "
            f"{n_experts - 1}, or -1 for a slot that stays empty"
        )
    return new


class Chain:
    """Several taps as one: each is handed what the one before returned."""

    def __init__(self, *taps: Tap) -> None:
        self.taps = taps

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Hand the activation through all taps."""
        for tap in self.taps:
            value = tap(name, value)
        return value

    def wants(self, name: str) -> bool:
        """True if any of the taps wants the name."""
        return any(tap.wants(name) for tap in self.taps)


NOTHING: Tap = NoTap()
