"""Changes of the model that a workbench's runs have in force, as values that can be listed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from qwen3lab import steering
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.figures.theme import visible
from qwen3lab.interventions import replacing, rerouting
from qwen3lab.interventions.positions import check_layer
from qwen3lab.interventions.replacing import AtToken
from qwen3lab.interventions.scaling import Part, Scaled
from qwen3lab.lab import Lab
from qwen3lab.translation import later, tr
from qwen3lab.widgets.workbench.own_vector import AddVector

STREAM = "blocks.{}.hook_resid_post"
UNCHANGED = later("without the changes")
"""Name of a reply to the same question with no change in force."""

IMPORTS = (
    "from qwen3lab import steering\n"
    "from qwen3lab.interventions import replacing, rerouting, scaling\n"
)


@runtime_checkable
class Change(Protocol):
    """One change of the model.

    Attributes:
        title: what it does, in a few words.
        part: what it changes; a new change of the same part takes the place of the old one.
    """

    @property
    def title(self) -> str:
        """What it does, in a few words."""
        ...

    @property
    def part(self) -> tuple[object, ...]:
        """What it changes."""
        ...

    def intervention(self, lab: Any) -> Any:
        """The edits of one run."""
        ...

    def code(self) -> str:
        """A Python expression for the same edits; `lab` is the model."""
        ...


@dataclass(frozen=True)
class Scale:
    """What a head, attention, an MLP, a layer or an expert writes, times a factor.

    Attributes:
        kind: as `interventions.scaling.Scaled.part`.
        layer: of the model.
        number: of the head or the expert.
        by: the factor; 0 takes it away.
        first: first position where it is scaled; None for everywhere.
        end: position after the last one; None for all that follow.
    """

    kind: Part
    layer: int
    number: int = 0
    by: float = 0.0
    first: int | None = None
    end: int | None = None

    @property
    def title(self) -> str:
        """Such as "head 4.1 off at token 17"."""
        name, place = name_of(self.kind, self.layer, self.number), _place(self.first, self.end)
        if self.by == 0:
            return tr("{name} off{place}", name=name, place=place)
        by = f"{self.by:g}".replace("-", "−")
        return tr("{name} × {by}{place}", name=name, by=by, place=place)

    @property
    def part(self) -> tuple[object, ...]:
        """The part and the tokens."""
        return (self.kind, self.layer, self.number, self.first, self.end)

    def intervention(self, lab: Any) -> Scaled:
        """The edits of one run."""
        tokens = None if self.first is None else slice(self.first, self.end)
        return Scaled(self.kind, self.layer, self.number, self.by, tokens)

    def code(self) -> str:
        """A Python expression for the same edits."""
        number = f", {self.number}" if self.kind in ("head", "expert") else ""
        tokens = "" if self.first is None else f", tokens={slice(self.first, self.end)}"
        return f"scaling.{self.kind}({self.layer}{number}, by={self.by!r}{tokens})"


@dataclass(frozen=True)
class Route:
    """An expert that no token, or every token, is routed to.

    Attributes:
        layer: of the model.
        expert: of the layer.
        on: True to force it on, False to switch it off.
    """

    layer: int
    expert: int
    on: bool = False

    @property
    def title(self) -> str:
        """Such as "expert 3.12 off"."""
        name = name_of("expert", self.layer, self.expert)
        return (
            tr("{name} on", name=name) if self.on else tr("{name} off{place}", name=name, place="")
        )

    @property
    def part(self) -> tuple[object, ...]:
        """The expert."""
        return ("route", self.layer, self.expert)

    def intervention(self, lab: Any) -> Any:
        """The edits of one run."""
        return (rerouting.on if self.on else rerouting.off)(self.expert, layers=self.layer)

    def code(self) -> str:
        """A Python expression for the same edits."""
        return f"rerouting.{'on' if self.on else 'off'}({self.expert}, layers={self.layer})"


@dataclass(frozen=True)
class Hide:
    """Tokens that no later token attends to.

    Attributes:
        first: position of the first one.
        end: position after the last one.
    """

    first: int
    end: int

    @property
    def title(self) -> str:
        """Such as "tokens 10 to 14 hidden from later ones"."""
        if self.end == self.first + 1:
            return tr("token {first} hidden from later ones", first=self.first)
        return tr(
            "tokens {first} to {last} hidden from later ones", first=self.first, last=self.end - 1
        )

    @property
    def part(self) -> tuple[object, ...]:
        """The tokens."""
        return ("hide", self.first, self.end)

    def intervention(self, lab: Any) -> Any:
        """The edits of one run."""
        return replacing.hidden(slice(self.first, self.end))

    def code(self) -> str:
        """A Python expression for the same edits."""
        return f"replacing.hidden({slice(self.first, self.end)})"


@dataclass(frozen=True)
class ReadAs:
    """A token that the model reads as another one: the embedding of that takes its place.

    Attributes:
        position: of the token.
        token_id: of the other token.
        text: of the other token.
    """

    position: int
    token_id: int
    text: str

    @property
    def title(self) -> str:
        """Such as "token 3 read as “7”"."""
        return tr(
            "token {position} read as “{text}”", position=self.position, text=visible(self.text)
        )

    @property
    def part(self) -> tuple[object, ...]:
        """The position."""
        return ("read as", self.position)

    def intervention(self, lab: Lab) -> AtToken:
        """The edits of one run."""
        found = lab.record([self.token_id], capture="hook_embed")
        return AtToken("hook_embed", self.position, found.raw("hook_embed")[0])

    def code(self) -> str:
        """A Python expression for the same edits."""
        vector = f'lab.record([{self.token_id}], capture="hook_embed").raw("hook_embed")[0]'
        return f'replacing.AtToken("hook_embed", {self.position}, {vector})'


@dataclass(frozen=True)
class Steer:
    """The stream pushed from one token towards another at a layer, from a position on.

    Attributes:
        layer: whose stream is changed.
        position: of the first changed token.
        away: id of the token that it is pushed from.
        towards: id of the token that it is pushed towards.
        by: multiple of the difference of their directions.
        text: what it is pushed towards, to read.
    """

    layer: int
    position: int
    away: int
    towards: int
    by: float
    text: str

    @property
    def title(self) -> str:
        """Such as "steered towards “7” at layer 4, from token 16"."""
        return tr(
            "steered towards “{text}” at layer {layer}, from token {position}",
            text=visible(self.text),
            layer=self.layer,
            position=self.position,
        )

    @property
    def part(self) -> tuple[object, ...]:
        """The layer and the position."""
        return ("steer", self.layer, self.position)

    def intervention(self, lab: Lab) -> Any:
        """The edits of one run."""
        vector = steering.from_token(lab, self.towards, other=self.away, layer=self.layer)
        return self.by * vector.at(positions=slice(self.position, None))

    def code(self) -> str:
        """A Python expression for the same edits."""
        tokens = f"{self.towards}, other={self.away}, layer={self.layer}"
        places = f".at(positions={slice(self.position, None)})"
        return f"{self.by!r} * steering.from_token(lab, {tokens}){places}"


@dataclass(frozen=True)
class Patch:
    """The stream of another text in place, after one layer at one token.

    Attributes:
        layer: after which the stream is replaced.
        position: of the token, the same in both texts.
        ids: token ids of the other text, up to the position.
        text: its question, to read.
    """

    layer: int
    position: int
    ids: tuple[int, ...]
    text: str

    @property
    def title(self) -> str:
        """Such as "layer 4 at token 16 from “1+1=?”"."""
        return tr(
            "layer {layer} at token {position} from “{text}”",
            layer=self.layer,
            position=self.position,
            text=visible(self.text),
        )

    @property
    def part(self) -> tuple[object, ...]:
        """The layer and the position."""
        return ("patch", self.layer, self.position)

    def intervention(self, lab: Lab) -> AtToken:
        """The edits of one run."""
        hook = STREAM.format(self.layer)
        found = lab.record(list(self.ids), capture=hook)
        return AtToken(hook, self.position, found.raw(hook)[self.position])

    def code(self) -> str:
        """A Python expression for the same edits."""
        hook = STREAM.format(self.layer)
        vector = f'lab.record({list(self.ids)}, capture="{hook}").raw("{hook}")[{self.position}]'
        return f'replacing.AtToken("{hook}", {self.position}, {vector})'


KINDS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Scale, Route, Hide, ReadAs, Steer, Patch, AddVector)
}


def name_of(kind: str, layer: int, number: int) -> str:
    """A part of the model, such as "head 4.1" or "MLP of layer 3"."""
    if kind in ("head", "expert"):
        return f"{tr(kind)} {layer}.{number}"
    where = tr("layer {layer}", layer=layer)
    if kind == "mlp":
        return tr("MLP of {where}", where=where)
    return tr("attention of {where}", where=where) if kind == "attention" else where


def with_change(changes: Sequence[Change], new: Change) -> tuple[Change, ...]:
    """The changes with one more, in place of an older one of the same part."""
    return (*(each for each in changes if each.part != new.part), new)


def check_exists(change: Change, config: Qwen3Config) -> None:
    """Check that a model has what is changed.

    Raises:
        HookError: it has no such layer, head or expert.
        ValueError: a vector has another size.
    """
    if isinstance(change, Scale | Route | Hide):
        change.intervention(None).edits(config, (0,))
    elif isinstance(change, AddVector):
        change.check(config)
    else:
        check_layer(getattr(change, "layer", 0), config)


def in_force(lab: Any, changes: Sequence[Change]) -> list[Any] | None:
    """The edits of a run with these changes; None without any."""
    return [change.intervention(lab) for change in changes] or None


def edits_of(lab: Any, changes: Sequence[Change]) -> dict[str, Any]:
    """The options of a reply with these changes; without any, there are none."""
    return {"edits": in_force(lab, changes)} if changes else {}


def titles(changes: Sequence[Change]) -> str:
    """All changes in one line."""
    return tr(", ").join(change.title for change in changes)


def code_of(changes: Sequence[Change]) -> str:
    """Python that makes the list `edits` of these changes for a lab `lab`."""
    lines = "".join(f"    {change.code()},\n" for change in changes)
    given = [change.given() for change in changes if isinstance(change, AddVector)]
    return f"{IMPORTS}\n{''.join(dict.fromkeys(given))}edits = [\n{lines}]\n"


def as_json(change: Change) -> dict[str, Any]:
    """A change as plain values, to be kept in a file."""
    return {"change": type(change).__name__, **asdict(change)}  # type: ignore[call-overload]


def from_json(values: Any) -> Change:
    """The change of plain values.

    Raises:
        ValueError: they are of no change.
    """
    known = dict(values) if isinstance(values, dict) else {}
    kind = KINDS.get(str(known.pop("change", "")))
    if kind is None:
        raise ValueError(
            tr(
                "{values!r} is no change: expected one of {kinds}",
                values=values,
                kinds=", ".join(KINDS),
            )
        )
    for name in ("ids", "vector"):
        if isinstance(known.get(name), list):
            known[name] = tuple(known[name])
    try:
        return kind(**known)
    except TypeError as error:
        raise ValueError(
            tr(
                "a change of kind {kind} cannot be read: {error}",
                kind=kind.__name__,
                error=error,
            )
        ) from None


def _place(first: int | None, end: int | None) -> str:
    if first is None:
        return ""
    if end == first + 1:
        return tr(" at token {first}", first=first)
    return (
        tr(" from token {first} on", first=first)
        if end is None
        else tr(" at tokens {first} to {last}", first=first, last=end - 1)
    )
