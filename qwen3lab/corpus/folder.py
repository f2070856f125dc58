"""The folder of a corpus run: a manifest, tables in parts, and a journal of the parts done."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.corpus.plan import CorpusPlan
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CorpusError
from qwen3lab.storage.atomic_files import is_leftover, whole_file, write_text
from qwen3lab.storage.json_dataclasses import structure, unstructure
from qwen3lab.translation import tr

if TYPE_CHECKING:
    import pyarrow

FORMAT = 1
KIND = "qwen3lab corpus"
MANIFEST, JOURNAL, LOCK = "manifest.json", "journal", "lock"
VOCABULARY = "vocabulary.parquet"
ACTIVATIONS = "activations"
TABLES = (
    "rows",
    "skipped",
    "counts",
    "groups",
    "co_activation",
    "transitions",
    "tokens",
    "top",
    "routes",
    "saliency",
)
RECORDED = ("part", "first_row", "n_rows", "texts", "tokens", "routed", "cut", "skipped", "bytes")
"""Columns of the journal: all integers."""
MAX_REASON = 200
MAX_MANIFEST_BYTES = 2**26


@dataclass(frozen=True)
class Manifest:
    """What a folder holds, whichever parts are done.

    Attributes:
        plan: of the run.
        config: of the model.
        fingerprint: of the model's weights; "" for routes from another engine.
        weights: dtype and quantisation of the model.
        engine: that routed the tokens: "qwen3lab", "vllm" or "sglang".
        source: digest of the data set.
        n_rows: of the data set.
        n_parts: of the run.
        hooks: that are recorded, in the order of the forward pass.
        versions: of packages, by name.
    """

    plan: CorpusPlan
    config: Qwen3Config
    fingerprint: str
    weights: str
    engine: str
    source: str
    n_rows: int
    n_parts: int
    hooks: tuple[str, ...]
    versions: dict[str, str]

    @property
    def knows_weights(self) -> bool:
        """False for routes from an engine that does not export the experts' weights."""
        return self.engine == "qwen3lab"


class Folder:
    """Paths and files of a run.

    Args:
        path: of the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()

    def make(self) -> None:
        """Make the folder; raises `CorpusError` if that is not possible."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CorpusError(
                tr("{path} cannot be a folder: {error}", path=self.path, error=error)
            ) from error

    def table(self, name: str, part: int) -> Path:
        """Path of a part of a table."""
        return self.path / name / f"part-{part:06d}.parquet"

    def shard(self, part: int) -> Path:
        """Path of the activations of a part."""
        return self.path / ACTIVATIONS / f"part-{part:06d}.safetensors"

    def manifest(self) -> Manifest:
        """The manifest.

        Raises:
            CorpusError: the folder has none, or a damaged one.
        """
        path = self.path / MANIFEST
        try:
            if path.stat().st_size > MAX_MANIFEST_BYTES or not path.is_file():
                raise ValueError(tr("it is no text file of a usual size"))
            fields = dict(json.loads(path.read_text(encoding="utf-8")))
            if fields.pop("kind", None) != KIND:
                raise ValueError(tr("another kind of file"))
            if (found := fields.pop("format", None)) != FORMAT:
                raise ValueError(
                    tr(
                        "format {found!r:.20}, and this version reads {format}",
                        found=found,
                        format=FORMAT,
                    )
                )
            manifest = structure(Manifest, fields)
            manifest.plan.check()
        except (OSError, ValueError, TypeError, RecursionError) as error:
            reason = one_line(str(error), width=MAX_REASON)
            raise CorpusError(
                tr(
                    "{path} holds no corpus ({reason}): expected a folder that qwen3lab.corpus "
                    "wrote",
                    path=self.path,
                    reason=reason,
                )
            ) from error
        return manifest

    def begin(self, manifest: Manifest, *, resume: bool) -> None:
        """Write the manifest, or compare it with the one that is there.

        Raises:
            CorpusError: the folder holds other files, another run, or one that is not resumed.
        """
        if (self.path / MANIFEST).exists():
            self._check_same(manifest)
            if not resume:
                raise CorpusError(
                    tr(
                        "{path} holds this run already, {n} of {n_parts} parts: resume it "
                        "(resume=True, "
                        "--resume), or open it with corpus.open",
                        path=self.path,
                        n=len(self.done()),
                        n_parts=manifest.n_parts,
                    )
                )
            return
        own = ("source.parquet", "source.jsonl", LOCK)
        others = self.path.iterdir() if self.path.exists() else ()
        if any(each.name not in own and not is_leftover(each) for each in others):
            raise CorpusError(
                tr("{path} is not empty, and has no corpus: choose another folder", path=self.path)
            )
        about = {"kind": KIND, "format": FORMAT, **unstructure(manifest)}
        write_text(self.path / MANIFEST, json.dumps(about, indent=1), error=CorpusError)

    def _check_same(self, manifest: Manifest) -> None:
        """Raises `CorpusError` if the folder is of another model, plan or data set."""
        there = self.manifest()
        new = structure(Manifest, json.loads(json.dumps(unstructure(manifest))))
        names = ("config", "fingerprint", "weights", "engine", "source", "hooks", "n_parts")
        other = [name for name in names if getattr(there, name) != getattr(new, name)]
        placed = ("model", "load")  # The same weights may stand in another place.
        other += [
            f"plan.{name}"
            for name in vars(new.plan)
            if name not in placed and getattr(there.plan, name) != getattr(new.plan, name)
        ]
        if other:
            raise CorpusError(
                tr(
                    "{path} holds another run, with other {choices}: choose another folder, or "
                    "remove it",
                    path=self.path,
                    choices=", ".join(other),
                )
            )

    def write_table(self, name: str, part: int, table: "pyarrow.Table") -> int:
        """Write a part of a table; returns the bytes of the file."""
        import pyarrow.parquet

        path = self.table(name, part)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, error=CorpusError) as unfinished:
            pyarrow.parquet.write_table(table, unfinished, compression="zstd")
        return path.stat().st_size

    def done(self) -> dict[int, dict[str, int]]:
        """What the journal says of each part that is done.

        A file that a killed writer left incomplete counts as none: its part is run again.
        """
        import pyarrow
        import pyarrow.parquet

        found: dict[int, dict[str, int]] = {}
        for path in sorted((self.path / JOURNAL).glob("*.parquet")):
            try:
                table = pyarrow.parquet.read_table(path, columns=list(RECORDED))
            except (pyarrow.ArrowException, OSError, ValueError, LookupError):
                continue
            for entry in table.to_pylist():
                found.setdefault(int(entry["part"]), {key: int(entry[key]) for key in RECORDED})
        return dict(sorted(found.items()))

    def note(self, entry: Mapping[str, int]) -> None:
        """Note in the journal that a part is done; its files are complete."""
        import pyarrow

        table = pyarrow.table({name: [entry[name]] for name in RECORDED})
        self.write_table(JOURNAL, entry["part"], table)


def versions() -> dict[str, str]:
    """Versions of this package and of those that its numbers depend on, by name."""
    from importlib.metadata import version

    names = ("qwen3lab", "torch", "transformers", "numpy", "pyarrow")
    return {name: version(name) for name in names}


def check_pyarrow() -> None:
    """Raises `ImportError`, with what to do, if pyarrow is missing."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ImportError(
            tr("a corpus is stored as Parquet, which needs pyarrow: pip install pyarrow")
        ) from error
