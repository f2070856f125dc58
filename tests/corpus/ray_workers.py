"""Workers of a Ray cluster that die, and a driver that is started as a process of its own."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from qwen3lab import corpus
from qwen3lab.corpus import ray_engine
from qwen3lab.corpus.ray_engine import PartWorker
from tests.corpus.texts import ROWS


class DyingWorker(PartWorker):
    """A worker that is killed once, after it has written the files of a part."""

    def __call__(self, batch):
        done = super().__call__(batch)
        flag = self.folder.path.with_name("killed")
        if json.loads(str(batch["part"][0]))["number"] == 1 and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return done


class SlowWorker(PartWorker):
    """A worker that takes its time, so that the driver can be killed before the last part."""

    def __call__(self, batch):
        done = super().__call__(batch)
        time.sleep(2)
        return done


def drive(out: str) -> None:
    """A driver with slow workers."""
    ray_engine.PartWorker = SlowWorker
    record(out, ray=True)


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
    drive(sys.argv[1])
