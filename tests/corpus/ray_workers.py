"""Workers of a Ray cluster that die or wait, and a driver that is a process of its own."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from qwen3lab import corpus
from qwen3lab.corpus import ray_engine
from qwen3lab.corpus.ray_engine import PartWorker
from qwen3lab.errors import CorpusError
from tests.corpus.texts import ROWS

MAX_SECONDS = 600


class DyingWorker(PartWorker):
    """A worker that is killed once, after it has written the files of a part."""

    def __call__(self, batch):
        done = super().__call__(batch)
        flag = self.folder.path.with_name("killed")
        if json.loads(str(batch["part"][0]))["number"] == 1 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return done


class WaitingWorker(PartWorker):
    """A worker that runs one part, and in the second waits to be killed."""

    n_done = 0

    def __call__(self, batch):
        if self.n_done:
            time.sleep(MAX_SECONDS)
        self.n_done += 1
        return super().__call__(batch)


class FailingWorker(PartWorker):
    """A worker that cannot start."""

    def __init__(self, folder, source):
        raise CorpusError("the weights on this worker are others")


def record(out: str | Path, **options):
    """The run that the tests compare: every part has one row."""
    return corpus.record(
        ROWS,
        model="tiny-moe",
        load_options={"device": "cpu", "dtype": "float32"},
        label="kind",
        out=out,
        part_rows=1,
        progress=False,
        **options,
    )


if __name__ == "__main__":
    from tests.corpus.ray_workers import WaitingWorker as Worker  # Workers cannot import __main__.

    ray_engine.PartWorker = Worker
    record(sys.argv[1], ray=sys.argv[2])
