"""Lists the published models with parameter counts and memory, computed from their configs."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from io import StringIO
from typing import TYPE_CHECKING, Any, overload

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from qwen3lab.config.placement import RECORDED_TOKENS, SIZES, fits
from qwen3lab.config.qwen3_config import BYTES_PER_VALUE, Qwen3Config
from qwen3lab.display import one_line, table
from qwen3lab.translation import later, tr

if TYPE_CHECKING:
    import pandas as pd

_FAMILY = Qwen3Config(
    d_model=1024, n_layers=28, n_heads=16, n_kv_heads=8, d_head=128, d_mlp=3072, d_vocab=151_936
)


def _dense(d_model: int, d_mlp: int, n_layers: int, n_heads: int, *, tied: bool) -> Qwen3Config:
    return replace(
        _FAMILY,
        d_model=d_model,
        d_mlp=d_mlp,
        n_layers=n_layers,
        n_heads=n_heads,
        tied_embeddings=tied,
    )


def _moe(d_model: int, d_mlp: int, n_layers: int, n_heads: int, d_expert: int) -> Qwen3Config:
    return replace(
        _dense(d_model, d_mlp, n_layers, n_heads, tied=False),
        n_kv_heads=4,
        n_experts=128,
        n_experts_per_token=8,
        d_expert=d_expert,
        moe_layers=tuple(range(n_layers)),
    )


PUBLISHED = {
    "Qwen/Qwen3-0.6B": _dense(1024, 3072, 28, 16, tied=True),
    "Qwen/Qwen3-1.7B": _dense(2048, 6144, 28, 16, tied=True),
    "Qwen/Qwen3-4B": _dense(2560, 9728, 36, 32, tied=True),
    "Qwen/Qwen3-8B": _dense(4096, 12288, 36, 32, tied=False),
    "Qwen/Qwen3-14B": _dense(5120, 17408, 40, 40, tied=False),
    "Qwen/Qwen3-32B": _dense(5120, 25600, 64, 64, tied=False),
    "Qwen/Qwen3-30B-A3B": _moe(2048, 6144, 48, 32, 768),
    "Qwen/Qwen3-235B-A22B": _moe(4096, 12288, 94, 64, 1536),
}
"""The models published in April 2025 (arXiv 2505.09388, tables 1 and 2), by hub id."""


@dataclass(frozen=True)
class ModelRow:
    """One model of the catalog.

    Attributes:
        name: hub id, or the name of an embedded model.
        d_model: hidden size.
        d_mlp: intermediate size of dense blocks.
        n_layers: blocks.
        n_heads: query heads per layer.
        n_kv_heads: key/value heads per layer.
        n_experts: experts per layer; 0 if dense.
        n_experts_per_token: experts chosen for each token; 0 if dense.
        d_expert: intermediate size of one expert; 0 if dense.
        tied_embeddings: True if embedding and unembedding share their weights.
        n_params: total number of parameters.
        n_active_params: parameters used in one token's forward pass, embeddings included.
        kv_cache_bytes_per_token: bytes per cached position, by dtype.
        weight_bytes: bytes of all weights, by dtype and by kind of quantisation.
        fits: how the model is held in 8 to 80 GB, as `load(memory=, quantise="auto")` picks it.
    """

    name: str
    d_model: int
    d_mlp: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    n_experts: int
    n_experts_per_token: int
    d_expert: int
    tied_embeddings: bool
    n_params: int
    n_active_params: int
    kv_cache_bytes_per_token: Mapping[str, int]
    weight_bytes: Mapping[str, int]
    fits: Mapping[str, str]

    @classmethod
    def of(cls, name: str, config: Qwen3Config) -> "ModelRow":
        """Build the row of one configuration."""
        computed = {"name", "kv_cache_bytes_per_token", "weight_bytes", "fits"}
        return cls(
            name=name,
            **{f.name: getattr(config, f.name) for f in fields(cls) if f.name not in computed},
            kv_cache_bytes_per_token={
                dtype: config.kv_cache_bytes_per_token(dtype) for dtype in BYTES_PER_VALUE
            },
            weight_bytes={
                **{dtype: config.weight_bytes(dtype) for dtype in BYTES_PER_VALUE},
                **{kind: config.quantised_bytes(kind) for kind in ("int8", "int4")},
            },
            fits=fits(config),
        )


class ModelTable(Sequence[ModelRow]):
    """Rows of the catalog; displays as a table in a terminal and in Jupyter."""

    def __init__(self, rows: Sequence[ModelRow]) -> None:
        self._rows = tuple(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[ModelRow]:
        return iter(self._rows)

    @overload
    def __getitem__(self, index: int) -> ModelRow: ...

    @overload
    def __getitem__(self, index: slice) -> "ModelTable": ...

    def __getitem__(self, index: int | slice) -> "ModelRow | ModelTable":
        return ModelTable(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict per model, ready for JSON."""
        return [asdict(row) for row in self._rows]

    def fits(self) -> str:
        """What fits in 8 to 80 GB and how, as a table for a terminal, with a note."""
        rows = [{"model": one_line(row.name), **row.fits} for row in self._rows]
        return f"{_rendered(rows, ['model', *SIZES])}\n{tr(FITS_NOTE, tokens=RECORDED_TOKENS)}"

    def to_pandas(self) -> "pd.DataFrame":
        """One row per model; bytes become columns such as `weight_bytes_bfloat16`.

        Raises:
            ImportError: pandas is not installed (`pip install qwen3lab[export]`).
        """
        import pandas as pd

        return pd.json_normalize(self.to_dicts(), sep="_")

    def __repr__(self) -> str:
        # Without a terminal, the output goes to a file or log, which has room for all columns.
        width = shutil.get_terminal_size(fallback=(1000, 24)).columns
        rows = [_cells(row) for row in self._rows]
        text = _rendered(rows, _COLUMNS)
        for dropped in range(1, len(_LEAST_NEEDED) + 1):
            if max(map(cell_len, text.splitlines())) <= width:
                break
            hidden = _LEAST_NEEDED[:dropped]
            text = _rendered(rows, [title for title in _COLUMNS if title not in hidden])
        return text

    def _repr_html_(self) -> str | None:
        try:
            import pandas as pd
        except ImportError:
            return None  # A notebook shows the text.
        rows = [_cells(row) for row in self._rows]
        cells = pd.DataFrame(rows, columns=_COLUMNS).rename(columns=tr)
        return table(cells, max_rows=max(1, len(rows)))


TITLES = (
    *(later("model"), later("hidden"), later("layers"), later("Q heads"), later("KV heads")),
    *(later("experts"), later("width"), later("tied"), later("parameters"), later("active")),
    later("KV/token"),
)
"""Titles of columns that have a translation."""

FITS_NOTE = later(
    "Each beside a recording of {tokens:,} tokens, as "
    'load(name, memory="24GB", quantise="auto") picks it.\n'
    'Without quantise="auto", weights stay exact: a model that is int8 or int4 here is streamed.\n'
    '"experts on host": everything else is on the GPU; needs the experts\' size in host memory.\n'
    "FP8, GPTQ, AWQ and GGUF releases are decoded, and take the memory of the whole model."
)


def model_table(extra: Mapping[str, Qwen3Config] | None = None) -> ModelTable:
    """A table of the models in `extra`, followed by the published models.

    Args:
        extra: configurations by model name, such as the models that ship with the package.
    """
    configs = {**(extra or {}), **PUBLISHED}
    return ModelTable([ModelRow.of(name, config) for name, config in configs.items()])


def _cells(row: ModelRow) -> dict[str, str]:
    """The table cells of one model, by column title; expert columns of a dense model are empty."""
    sparse = row.n_experts > 0
    return {
        "model": one_line(row.name),
        "hidden": f"{row.d_model}",
        "MLP": f"{row.d_mlp}",
        "layers": f"{row.n_layers}",
        "Q heads": f"{row.n_heads}",
        "KV heads": f"{row.n_kv_heads}",
        "experts": f"{row.n_experts} ({row.n_experts_per_token})" if sparse else "",
        "width": f"{row.d_expert}" if sparse else "",
        "tied": tr("yes") if row.tied_embeddings else tr("no"),
        "parameters": f"{row.n_params:,}",
        "active": f"{row.n_active_params:,}" if sparse else "",
        "KV/token": f"{row.kv_cache_bytes_per_token['bfloat16'] / 2**10:.4g} KiB",
        "int4": _gib(row.weight_bytes["int4"]),
        "int8": _gib(row.weight_bytes["int8"]),
        "bfloat16": _gib(row.weight_bytes["bfloat16"]),
        "float32": _gib(row.weight_bytes["float32"]),
    }


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**29 else f"{n_bytes / 2**20:.1f} MiB"


def _rendered(rows: list[dict[str, str]], columns: list[str]) -> str:
    lines = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for title in columns:
        lines.add_column(tr(title), justify="left" if title == "model" else "right", no_wrap=True)
    for cells in rows:
        # Text, because rich parses a plain string in brackets as markup.
        lines.add_row(*(Text(cells[title]) for title in columns))
    text = StringIO()
    Console(file=text, width=1000, color_system=None, force_jupyter=False).print(lines)
    return "\n".join(line.strip() for line in text.getvalue().splitlines() if line.strip())


_COLUMNS = list(_cells(ModelRow.of("", _FAMILY)))
_LEAST_NEEDED = ["width", "tied", "Q heads", "MLP", "KV heads", "hidden"]
_LEAST_NEEDED += ["float32", "KV/token", "layers", "experts", "active", "int8", "int4"]
"""Columns that a narrow terminal does not show, in the order in which they are dropped."""
