"""Records a corpus: opens the data set and the model, and runs the parts that are not done."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shutil import disk_usage
from typing import Any

from tqdm.auto import tqdm

from qwen3lab.corpus.folder import LOCK, VOCABULARY, Folder, Manifest, check_pyarrow, versions
from qwen3lab.corpus.part import Kept, run_part
from qwen3lab.corpus.plan import BATCH_TOKENS, CorpusPlan
from qwen3lab.corpus.run import CorpusRun
from qwen3lab.corpus.sizes import Expected, expected
from qwen3lab.corpus.source import Part, Source, open_source
from qwen3lab.corpus.texts import columns_of
from qwen3lab.errors import CorpusError
from qwen3lab.lab import Lab, load
from qwen3lab.recording.weights_fingerprint import fingerprint
from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.storage.line_files import locked
from qwen3lab.text.tokenizer import token_texts
from qwen3lab.translation import tr


def record(
    data: object,
    *,
    model: str | Path | Lab,
    out: str | Path,
    column: str = "text",
    label: str | Sequence[str] = (),
    token_label: str | Sequence[str] = (),
    keep: str | Sequence[str] = ("counts",),
    reduce: Mapping[str, str] | None = None,
    full: str | Sequence[str] = (),
    top_hooks: str | Sequence[str] = (),
    ray: bool | str | None = None,
    workers: int = 2,
    resume: bool = False,
    progress: bool = True,
    load_options: Mapping[str, str] | None = None,
    **more: Any,
) -> CorpusRun:
    """Run a model over a data set, and keep what is asked for in a folder.

    The data set is divided into parts. Each is stored as soon as it is done, so an interrupt
    loses one part at most, and the same call with `resume=True` runs the others. Which texts share
    a batch does not depend on the engine: on processors of one kind, one process and a cluster
    give the same numbers.

    Args:
        data: a Parquet, JSON Lines or text file, a folder of such files, a list of texts or rows,
            or a Hugging Face data set. A text file is one text.
        model: a name, folder or hub id; or, without Ray, a lab.
        out: folder for the result; made if it does not exist.
        column: of the texts, chats or token ids.
        label: column, or columns, whose values group the counts.
        token_label: column, or columns, with a list of one label for each token; `cross=True`
            counts every pair of a label and a token label, too.
        keep: of the routing: "counts", "top" for examples, "routes" for every token's experts,
            "saliency" for the sizes of the experts' outputs (`corpus.expert_scores`).
        reduce: hooks or globs, of which one value for each text is kept: "mean", "last", or
            positions such as "0,-1".
        full: hooks or globs that are kept for every token.
        top_hooks: hooks whose heads or features get top examples, with "top" in `keep`.
        ray: True for a Ray cluster, or its address; needs `pip install "qwen3lab[ray]"`. The
            folder, and files of the data set, must be on a disk that every worker sees.
        workers: number of Ray's workers, each with its own copy of the model.
        resume: go on with the run that is in the folder.
        progress: show a progress bar.
        load_options: further arguments of `qwen3lab.load`, such as {"dtype": "bfloat16"}.
        more: further fields of `CorpusPlan`, such as `id`, `max_tokens`, `too_long`, `top`,
            `part_rows`, `batch_tokens`.

    Returns:
        The result; after a keyboard interrupt, that of the parts that were done.

    Raises:
        CorpusError: the data set, the plan or the folder does not fit; the disk is too small; a
            file cannot be read or written; a worker failed.
        ImportError: Ray or pyarrow is not installed.
        HookError: a hook that the model does not have.

    Example:
        >>> import tempfile
        >>> from qwen3lab import corpus
        >>> rows = [{"text": "3+4=?", "kind": "sum"}, {"text": "7*2=?", "kind": "product"}]
        >>> with tempfile.TemporaryDirectory() as out:
        ...     run = corpus.record(rows, model="tiny-moe", label="kind", out=out, progress=False)
        ...     run.total("texts"), sorted(set(run.counts.label))
        (2, ['product', 'sum'])
    """
    check_pyarrow()
    options = dict(load_options or {})
    name = model.name if isinstance(model, Lab) else str(model)
    if isinstance(model, Lab) and ray:
        raise CorpusError("a lab cannot be sent to Ray's workers: give the model's name or folder")
    if workers < 1:
        raise CorpusError(f"workers is {workers}: expected 1 or more")
    plan = _plan(
        name,
        column=column,
        labels=_listed(label),
        token_labels=_listed(token_label),
        keep=_listed(keep),
        reduce=dict(reduce or {}),
        full=_listed(full),
        top_hooks=_listed(top_hooks),
        load=options,
        **more,
    )
    folder, address = Folder(out), ray if isinstance(ray, str) else None
    folder.make()
    if ray:
        from qwen3lab.corpus.ray_engine import check_ray

        check_ray(address)
    source = open_source(data, columns_of(plan), part_rows=plan.part_rows, store_in=folder.path)
    lab = model if isinstance(model, Lab) else load(name, **options)  # type: ignore[arg-type]
    if not plan.batch_tokens:
        kind = "cpu" if lab.model.device.type == "cpu" else "gpu"
        plan = replace(plan, batch_tokens=BATCH_TOKENS[kind])
    kept = Kept.of(plan, lab.config)
    manifest = _manifest(lab, kept, source)
    with locked(folder.path / LOCK):
        folder.begin(manifest, resume=resume)
        write_vocabulary(lab, folder)
        done = folder.done()
        missing = [part for part in source.parts if part.number not in done]
        size = expected(lab, kept, source)
        _check_disk(folder, size, len(missing) / len(source.parts))
        with suppress(KeyboardInterrupt):  # The parts that are done stay.
            if ray and missing:
                from qwen3lab.corpus.ray_engine import run_on_ray

                run_on_ray(folder, kept, source, missing, address=address, workers=workers)
            elif missing:
                _run_here(lab, kept, source, missing, folder, size if progress else None)
    return CorpusRun(folder.path)


def _plan(name: str, **fields: Any) -> CorpusPlan:
    known = CorpusPlan.__dataclass_fields__
    if unknown := [field for field in fields if field not in known]:
        listed = ", ".join(known)
        raise CorpusError(f"there is no option {unknown[0]!r}: a plan has {listed}")
    plan = CorpusPlan(model=name, **fields)
    plan.check()
    return plan


def _run_here(
    lab: Lab,
    kept: Kept,
    source: Source,
    missing: Sequence[Part],
    folder: Folder,
    size: Expected | None,
) -> None:
    """Run parts in this process; a progress bar with the expected size, if there is one."""
    rows = sum(part.n_rows for part in missing)
    options = {"total": source.n_rows, "initial": source.n_rows - rows, "unit": tr("row")}
    with tqdm(**options, disable=size is None) as bar:
        if size is not None:
            bar.set_postfix_str(
                tr(
                    "{tokens:,} tokens, {size:,.1f} MB expected",
                    tokens=size.tokens,
                    size=size.bytes / 1e6,
                )
            )
        for part in missing:
            folder.note(run_part(lab, kept, source, part, folder))
            bar.update(part.n_rows)


def _manifest(lab: Lab, kept: Kept, source: Source) -> Manifest:
    return Manifest(
        plan=kept.plan,
        config=lab.config,
        fingerprint=fingerprint(lab.model),
        weights=lab.weights,
        engine="qwen3lab",
        source=source.digest,
        n_rows=source.n_rows,
        n_parts=len(source.parts),
        hooks=kept.hooks,
        versions=versions(),
    )


def write_vocabulary(lab: Lab, folder: Folder) -> None:
    """The text of each token id, so that tables of a run are read without its model."""
    import pyarrow
    import pyarrow.parquet

    path = folder.path / VOCABULARY
    if path.exists():
        return
    n = min(lab.config.d_vocab, len(lab.tokenizer))
    texts = token_texts(lab.tokenizer, range(n))
    table = pyarrow.table({"token_id": pyarrow.array(range(n), pyarrow.uint32()), "text": texts})
    with whole_file(path, error=CorpusError) as part:
        pyarrow.parquet.write_table(table, part, compression="zstd")


def _check_disk(folder: Folder, size: Expected, share: float) -> None:
    free = disk_usage(folder.path).free
    if size.bytes * share > free:
        raise CorpusError(
            f"the run is expected to write {size.bytes * share / 1e9:.1f} GB, and the disk of "
            f"{folder.path} has {free / 1e9:.1f} GB free: free some space, or keep less"
        )


def _listed(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
