"""Results of sweeps: a map of one metric, with labels for its axes."""

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from qwen3lab.display import Displayed, Summary, one_line
from qwen3lab.recording.equality import EqualByValue
from qwen3lab.translation import later, tr, tr_count

if TYPE_CHECKING:
    import pandas

SMALLEST_SHARE = 0.01
"""Effects below this share of the largest one have no sign that is compared."""

AXES = {"kv_head": later("key/value head")}
"""Axes that are shown under another name."""

ABLATIONS = {
    "zero": later("Zero ablation"),
    "mean": later("Mean ablation"),
    "resample": later("Resample ablation"),
}
"""Titles, by how a part is replaced."""


@dataclass(frozen=True, repr=False)
class Agreement:
    """How well the effects of two sweeps agree, over cells that both have.

    Attributes:
        correlation: Pearson's, of the effects; NaN if those of one sweep are all equal.
        same_sign: share of cells with the same sign, of those whose exact effect is above
            `SMALLEST_SHARE` of the largest; NaN if there is none.
        n_cells: number of compared cells.
    """

    correlation: float
    same_sign: float
    n_cells: int

    def __str__(self) -> str:
        return tr(
            "correlation {correlation:.2f}, same sign {same_sign:.0%}, on {counted}",
            correlation=self.correlation,
            same_sign=self.same_sign,
            counted=tr_count("{n:,} cell", "{n:,} cells", self.n_cells),
        )

    __repr__ = __str__


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Swept(EqualByValue, Displayed):
    """A metric for each patch of a sweep.

    Attributes:
        model_name: of the model.
        method: such as "patching".
        site: what was patched.
        metric: label of the metric.
        unit: of the metric.
        axes: names of the axes of `values` and `raw`, the layer first.
        layers: of the model; the first axis.
        tokens: texts of the patched tokens of the run that is patched; the token axis.
        positions: of these tokens in their prompt.
        values: the effect, in the unit that the class says; NaN for cells that were not run.
        raw: the metric.
        start: the metric of the run without any patch.
        note: what was left out; empty if nothing was.
    """

    model_name: str
    method: str
    site: str
    metric: str
    unit: str
    axes: tuple[str, ...]
    layers: tuple[int, ...]
    tokens: tuple[str, ...]
    positions: tuple[int, ...]
    values: Float[Tensor, "layer ..."]
    raw: Float[Tensor, "layer ..."]
    start: float
    note: str = ""

    @property
    def effects(self) -> Float[Tensor, "layer ..."]:
        """The change of `values` by each patch."""
        return self.values

    def names(self, axis: int) -> list[str]:
        """The name of each index along an axis: layer, head, or position of a token."""
        kind = self.axes[axis]
        if kind == "layer":
            return [str(layer) for layer in self.layers]
        if kind == "token":
            return [str(position) for position in self.positions]
        return [str(number) for number in range(self.values.shape[axis])]

    def to_pandas(self) -> "pandas.DataFrame":
        """A tidy table: the axes, the token's text if there is an axis of tokens, raw, value."""
        import pandas

        names = [[int(name) for name in self.names(axis)] for axis in range(len(self.axes))]
        table = pandas.DataFrame(list(itertools.product(*names)), columns=list(self.axes))
        if "token" in self.axes:
            texts = dict(zip(self.positions, self.tokens, strict=True))
            table["text"] = table["token"].map(texts)
        table["raw"], table["value"] = self.raw.flatten().numpy(), self.values.flatten().numpy()
        return table.dropna(subset=["raw"]).reset_index(drop=True)

    def strongest(self, n: int = 10) -> "pandas.DataFrame":
        """The rows of the table with the largest effects of either sign."""
        table = self.to_pandas()
        keys = [tuple(map(int, self._place(cell))) for cell in self._strongest(n)]
        return table.set_index(list(self.axes)).loc[keys].reset_index()

    def _strongest(self, n: int) -> list[int]:
        """Flat numbers of the cells with the largest effects."""
        sizes = self.effects.abs().nan_to_num(nan=-1.0).flatten()
        order = sizes.argsort(descending=True, stable=True)[:n].tolist()
        return [cell for cell in order if float(sizes[cell]) >= 0]

    def _place(self, cell: int) -> tuple[str, ...]:
        """The name of a cell along each axis."""
        index = torch.unravel_index(torch.tensor(cell), self.values.shape)
        return tuple(self.names(axis)[int(place)] for axis, place in enumerate(index))

    def agreement(self, exact: "Swept") -> Agreement:
        """How well the effects agree with those of an exact sweep over the same cells.

        Raises:
            ValueError: the sweeps are of other cells.
        """
        mine = (self.site, self.axes, self.layers, self.positions, self.values.shape)
        other = (exact.site, exact.axes, exact.layers, exact.positions, exact.values.shape)
        if mine != other:
            raise ValueError(
                tr(
                    "one sweep is of {what} and the other of {other}: expected the same "
                    "site, axes, layers and tokens",
                    what=self._what(),
                    other=exact._what(),
                )
            )
        return agreement_of(self.effects, exact.effects)

    def _what(self) -> str:
        sizes = " x ".join(str(size) for size in self.values.shape)
        return tr(
            "{site} by {axes} ({sizes})", site=self.site, axes=", ".join(self.axes), sizes=sizes
        )

    def _facts(self) -> dict[str, str]:
        run = ~self.raw.isnan()
        partial = (
            ""
            if bool(run.all())
            else tr("{sum:,} of {numel:,} were run", sum=int(run.sum()), numel=run.numel())
        )
        strongest = ", ".join(map(self._cell, self._strongest(2)))
        facts = {
            tr("site"): self.site,
            tr("by"): ", ".join(tr(AXES.get(axis, axis)) for axis in self.axes),
            tr("metric"): self.metric,
            tr("cells"): partial or f"{run.numel():,}",
            tr("strongest"): strongest,
        }
        return {name: value for name, value in facts.items() if value}

    def _cell(self, cell: int) -> str:
        names = zip(self.axes, self._place(cell), strict=True)
        place = " ".join(f"{tr(AXES.get(axis, axis))} {name}" for axis, name in names)
        if "token" in self.axes:
            token = self.positions.index(int(self._place(cell)[self.axes.index("token")]))
            place += f" “{one_line(self.tokens[token], width=12)}”"
        return f"{place}: {float(self.effects.flatten()[cell]):+.2f}"


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Patched(Swept):
    """A metric with activations of one run put into another, for each patch.

    `values` are normalised: 0 is the corrupt run, and 1 the clean one.

    Attributes:
        direction: "denoise" if activations of the clean run were put into the corrupt one, "noise"
            for the reverse.
        clean: the metric of the clean run.
        corrupt: the metric of the corrupt run.
        clean_tokens: texts of the patched tokens in the clean prompt.
        corrupt_tokens: texts of the patched tokens in the corrupt prompt.
        measured: how well cells that were run exactly agree, for an approximation.
    """

    direction: str
    clean: float
    corrupt: float
    clean_tokens: tuple[str, ...]
    corrupt_tokens: tuple[str, ...]
    measured: Agreement | None = None

    @property
    def effects(self) -> Float[Tensor, "layer ..."]:
        """The change of `values` by each patch: from 0 if denoised, from 1 if noised."""
        return self.values - (0.0 if self.direction == "denoise" else 1.0)

    def _summary(self) -> Summary:
        facts = self._facts()
        facts[tr("clean")] = f"{self.clean:.3f}"
        facts[tr("corrupt")] = f"{self.corrupt:.3f} {tr(self.unit)}"
        facts[tr("direction")] = self.direction
        if self.measured is not None:
            facts[tr("agreement with exact patches")] = str(self.measured)
        method = tr(self.method)
        title = method[0].upper() + method[1:]
        return Summary(title, facts, frame=lambda: self.strongest().round(3), note=self.note)


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class Ablated(Swept):
    """A metric with a part of the run replaced by something without information, for each part.

    `values` are the change of the metric, in its unit.

    Attributes:
        how: "zero", "mean" or "resample".
    """

    how: str

    def _summary(self) -> Summary:
        facts = self._facts() | {tr("without"): f"{self.start:.3f} {self.unit}"}
        title = tr(ABLATIONS[self.how])
        return Summary(title, facts, frame=lambda: self.strongest().round(3), note=self.note)


def agreement_of(found: Float[Tensor, "*index"], exact: Float[Tensor, "*index"]) -> Agreement:
    """How well effects agree with exact ones; cells that are NaN in one of them do not count."""
    both = ~(found.isnan() | exact.isnan())
    mine, other = found[both].double(), exact[both].double()
    if not len(mine):
        return Agreement(float("nan"), float("nan"), 0)
    large = other.abs() > SMALLEST_SHARE * other.abs().max()
    same = (mine.sign() == other.sign())[large]
    centred, target = mine - mine.mean(), other - other.mean()
    scale = float(centred.norm() * target.norm())
    correlation = float(centred @ target) / scale if scale > 0 else float("nan")
    return Agreement(correlation, float(same.double().mean()), len(mine))
