"""Runs the parts of a corpus on a Ray cluster: the same parts, the same files, more workers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from qwen3lab.corpus.folder import JOURNAL, RECORDED, Folder
from qwen3lab.corpus.part import Kept, run_part
from qwen3lab.corpus.source import Part, Source
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CorpusError
from qwen3lab.lab import load
from qwen3lab.recording.weights_fingerprint import fingerprint

MAX_REASON = 300
INSTALL = 'pip install "qwen3lab[ray]"'


class PartWorker:
    """Loads the model once, and runs parts; Ray keeps one in each of its actors.

    Args:
        folder: of the run, on a disk that all workers see.
        source: the data set.
    """

    def __init__(self, folder: str, source: Source) -> None:
        self.folder, self.source = Folder(folder), source
        manifest = self.folder.manifest()
        plan = manifest.plan
        self.lab = load(plan.model, **plan.load)  # type: ignore[arg-type]
        if fingerprint(self.lab.model) != manifest.fingerprint:
            raise CorpusError(
                f"{plan.model} has other weights on a worker than where the run was started: give "
                "a folder or hub id that is the same everywhere, and a dtype"
            )
        self.kept = Kept.of(plan, self.lab.config)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run the parts of a batch; returns their entries of the journal."""
        entries = [
            run_part(self.lab, self.kept, self.source, Part(**json.loads(text)), self.folder)
            for text in batch["part"]
        ]
        return {name: np.array([each[name] for each in entries], np.int64) for name in RECORDED}


def check_ray() -> None:
    """Raises `ImportError`, with what to do, if Ray is not installed."""
    try:
        import ray.data  # noqa: F401
    except ImportError as error:
        raise ImportError(f"ray is not installed: {INSTALL}") from error


def run_on_ray(
    folder: Folder,
    kept: Kept,
    source: Source,
    missing: Sequence[Part],
    *,
    address: str | None,
    workers: int,
) -> None:
    """Run parts on a cluster.

    A part writes the same files whichever worker runs it, and however often: a worker that dies
    is replaced, and its part is run again. The journal, which Ray writes after a part's files,
    says which parts are done.

    Args:
        folder: of the run, with its manifest.
        kept: what is kept.
        source: the data set.
        missing: the parts to run.
        address: of a running cluster; None starts one on this machine, or joins the one that
            `ray.init` has already joined.
        workers: number of actors.

    Raises:
        CorpusError: the address does not answer, or a worker failed.
    """
    import ray
    import ray.data.exceptions

    started_here = _join(address)
    try:
        parts = [{"part": json.dumps(asdict(part))} for part in missing]
        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= workers else 0
        data = ray.data.from_items(parts, override_num_blocks=len(parts))
        data = data.map_batches(
            PartWorker,
            fn_constructor_args=(str(folder.path), source),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
            num_gpus=gpus,
        )
        data.write_parquet(str(folder.path / JOURNAL))
    except (ray.exceptions.RayError, ray.data.exceptions.SystemException) as error:
        raise CorpusError(f"the run on Ray failed: {_cause(error)}") from error
    finally:
        if started_here:
            ray.shutdown()


def _join(address: str | None) -> bool:
    """Join or start a cluster; returns True if that has to be undone."""
    import ray

    if ray.is_initialized():
        return False
    try:
        ray.init(address=address, log_to_driver=False)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        raise CorpusError(
            f"the Ray cluster at {address or 'this machine'} does not answer ({_cause(error)}): "
            "start it with `ray start --head`, or give its address"
        ) from error
    return True


def _cause(error: BaseException) -> str:
    """The last line of what first went wrong; Ray wraps it several times."""
    while (inner := getattr(error, "cause", None) or error.__cause__) is not None:
        error = inner
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return one_line(lines[-1] if lines else type(error).__name__, width=MAX_REASON)
