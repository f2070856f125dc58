"""Runs the parts of a corpus on a Ray cluster: the same parts, the same files, more workers."""

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec

import numpy as np
import torch

from qwen3lab.corpus.folder import JOURNAL, RECORDED, Folder
from qwen3lab.corpus.part import Kept, run_part
from qwen3lab.corpus.source import Part, Source
from qwen3lab.display.plain import one_line
from qwen3lab.errors import CorpusError
from qwen3lab.lab import load
from qwen3lab.recording.weights_fingerprint import fingerprint

MAX_REASON = 300
INSTALL = 'pip install "qwen3lab[ray]"'
CONNECT_SECONDS = 5
SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_raylet_start_wait_time_s": "60",
}
"""Ray sends no statistics of its use, does not hide GPUs from workers that ask for none, and gives
a busy machine more than half a minute to start. It reads them when it is imported."""
START_ATTEMPTS = 3
"""Of a cluster on this machine: its node ends if its agents take more than 15 seconds to start,
which they do on a busy machine, and less often once their files are in memory."""
WORKER_THREADS = 1
"""Of a worker on a CPU, whatever OMP_NUM_THREADS says: there is a worker for each processor."""
FIRST_ERROR = re.compile(r"^[\w.]*(?:Error|Exception): (.+)$", re.MULTILINE)
"""The end of a traceback; that of the cause comes first."""


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
        if self.lab.model.device.type == "cpu":
            torch.set_num_threads(WORKER_THREADS)
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


def check_ray(address: str | None = None) -> None:
    """Check, before a model is loaded, that Ray is there, and that an address answers.

    Raises:
        ImportError: Ray is not installed.
        CorpusError: nothing answers at the address.
    """
    if find_spec("ray") is None:
        raise ImportError(f"ray is not installed: {INSTALL}")
    host, colon, port = (address or "").rpartition("://")[2].rpartition(":")
    if not (colon and port.isdecimal()):  # Such as "auto", which Ray resolves.
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise _no_answer(address, error) from error


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
        address: of a running cluster; None joins the one that `ray.init` has already joined, or
            that RAY_ADDRESS names (as `ray job submit` sets it), or starts one on this machine.
        workers: number of actors.

    Raises:
        CorpusError: the address does not answer, or a worker failed.
    """
    _set_up()
    import ray
    import ray.data.exceptions
    import ray.exceptions

    started_here = _join(address)
    try:
        parts = [{"part": json.dumps(asdict(part))} for part in missing]
        data = ray.data.from_items(parts, override_num_blocks=len(parts))
        cpus, gpus = _share_of(ray.cluster_resources(), workers)
        data = data.map_batches(
            PartWorker,
            fn_constructor_args=(str(folder.path), source),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=cpus,
            num_gpus=gpus,
        )
        data.write_parquet(str(folder.path / JOURNAL))
    except (ray.exceptions.RayError, ray.data.exceptions.SystemException) as error:
        raise CorpusError(f"the run on Ray failed: {_cause(error)}") from error
    finally:
        if started_here:
            ray.shutdown()


def _share_of(resources: Mapping[str, float], workers: int) -> tuple[float, float]:
    """Processors and GPUs of a worker; one processor is left for Ray's own writing tasks."""
    cpus = min(1.0, max(0.0, (resources.get("CPU", 1.0) - 1) / workers))
    return cpus, float(resources.get("GPU", 0.0) >= workers)


def _join(address: str | None) -> bool:
    """Join or start a cluster; returns True if that has to be undone."""
    _set_up()
    import ray

    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _start(address)
    finally:  # Ray's own handler would stay after the run.
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
    return True


def _start(address: str) -> None:
    import ray

    is_here = address == "local"
    for left in reversed(range(START_ATTEMPTS if is_here else 1)):
        try:
            dashboard = False if is_here else None
            ray.init(address=address, log_to_driver=False, include_dashboard=dashboard)
            return
        except Exception as error:  # Of a start that takes too long, Ray raises no other kind.
            if not left:
                raise _no_answer(address, error) from error


def _set_up() -> None:
    """Settings of Ray, where the user has no others; before it is imported."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def _no_answer(address: str | None, error: Exception) -> CorpusError:
    return CorpusError(
        f"the Ray cluster at {address or 'this machine'} does not answer ({_cause(error)}): start "
        "it with `ray start --head`, or give its address"
    )


def _cause(error: BaseException) -> str:
    """What went wrong first, in one line: the message of an error of Ray is a whole traceback."""
    text = str(error)
    lines = FIRST_ERROR.findall(text) or [each.strip() for each in text.splitlines()[::-1]]
    return one_line(next(filter(None, lines), type(error).__name__), width=MAX_REASON)
