"""Runs the cases of one job: prepare, run whole, interrupt at a moment, check, go on, check."""

import os
import random
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interrupts.moments import Moment, Moments, interrupt
from tests.interrupts.state import interruptible, leftovers, lock_is_free, plain, process_state
from tests.interrupts.table import Job, World

N_CASES = int(os.environ.get("QWEN3LAB_INTERRUPTS", 300))
SEED = int(os.environ.get("QWEN3LAB_FUZZ_SEED", 0))


@dataclass
class Whole:
    """A run without an interrupt: its value, its files and its moments."""

    value: Any
    plain: Any
    files: Any
    moments: Moments


def empty(folder: Path) -> None:
    """Remove what a case left."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "tmp").mkdir()


def run_whole(job: Job, world: World) -> Whole:
    """Run a job twice: first for caches and late imports, then for its moments."""
    if job.prepare is not None:
        world.made[job.name] = job.prepare(world)
    values = []
    for _ in range(2):
        empty(world.folder)
        job.before(world)
        with interruptible(world.folder / "tmp"):
            moments = Moments(lambda: job.run(world))
        values.append(plain(moments.value))
    assert values[0] == values[1], f"{job.name} gives two values without an interrupt"
    return Whole(moments.value, values[1], job.files(world.folder), moments)


def check_interrupt(job: Job, world: World, whole: Whole, moment: Moment) -> bool:
    """One case; True if KeyboardInterrupt came out of the job."""
    empty(world.folder)
    job.before(world)
    with interruptible(world.folder / "tmp"):
        before = process_state()
        value, raised = _interrupted(job, world, moment)
        left = leftovers(world.folder)
        after = process_state()
        assert after == before, {k: (before[k], v) for k, v in after.items() if v != before[k]}
        assert not left, f"temporary files stay: {left}"
        for name in job.labs:
            assert lock_is_free(getattr(world, name).lock), "another thread cannot use the lab"
        job.kept(world, whole.value, value)
        check_resumed(job, world, whole)
        for name in job.labs:
            assert world.probe(name) == world.made[f"probe of {name}"], "the lab's numbers differ"
    return raised


def check_resumed(job: Job, world: World, whole: Whole) -> None:
    """The same call ends as the run without an interrupt."""
    assert plain(job.run(world)) == whole.plain, "the same call gives another value"
    assert job.files(world.folder) == whole.files, "the same call leaves other files"


def _interrupted(job: Job, world: World, moment: Moment) -> tuple[Any, bool]:
    world.shown.clear()
    try:
        return interrupt(lambda: job.run(world), moment, signal.SIGINT), False
    except KeyboardInterrupt:
        return None, True


def drawn(job: Job, whole: Whole, n: int, seed: int) -> Iterator[Moment]:
    """The moments of a job's cases."""
    chance = random.Random(f"{job.name} {seed}")
    for _ in range(n):
        yield whole.moments.draw(chance)
