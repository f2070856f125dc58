"""Kills jobs with SIGKILL at drawn moments, each in a process of its own.

Run as a program in a fresh process without threads: it loads the labs once and forks a process for
each case, which kills itself at the moment. A second process makes the same call; its value and
files have to be those of a run that was not killed. Prints a JSON object.
"""

import json
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.interrupts.cases import Whole, drawn, empty, run_whole
from tests.interrupts.jobs import JOBS
from tests.interrupts.moments import Moment, interrupt
from tests.interrupts.state import plain
from tests.interrupts.table import Job, World

SURVIVORS = [job for job in JOBS if job.survives]


def main(n_cases: int, seed: int) -> dict[str, Any]:
    """Try `n_cases` kills over all jobs whose files survive one."""
    torch.set_num_threads(1)
    findings: list[str] = []
    counts = dict.fromkeys((job.name for job in SURVIVORS), 0)
    with tempfile.TemporaryDirectory() as folder:
        world = World.make(Path(folder))
        for job in SURVIVORS:
            whole = run_whole(job, world)
            for moment in drawn(job, whole, max(1, n_cases // len(SURVIVORS)), seed):
                counts[job.name] += 1
                try:
                    check_kill(job, world, whole, moment)
                except Exception as error:
                    findings.append(f"{job.name}: {moment}: {error!r}"[:1000])
    return {"kills": counts, "findings": findings}


def check_kill(job: Job, world: World, whole: Whole, moment: Moment) -> None:
    """One case: killed, then looked at, then run again in another process."""
    empty(world.folder)
    job.before(world)
    status, _ = in_fork(lambda: interrupt(lambda: job.run(world), moment, signal.SIGKILL))
    # A moment inside of code that is generated once does not come again: the job has then ended.
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status

    def go_on() -> tuple[Any, Any]:
        world.made.pop("trainer", None)
        world.killed = True
        job.kept(world, whole.value, None)
        return plain(job.run(world)), job.files(world.folder)

    status, found = in_fork(go_on)
    assert status == 0 and not isinstance(found, str), found
    assert found[0] == whole.plain, "the same call gives another value"
    assert found[1] == whole.files, "the same call leaves other files"


def in_fork(run: Callable[[], Any]) -> tuple[int, Any]:
    """The status and the value of a function in a child; a text is that of its exception."""
    with tempfile.TemporaryFile() as file:
        child = os.fork()
        if not child:
            try:
                value = run()
            except BaseException as error:
                value = repr(error)
            file.write(pickle.dumps(value))
            file.flush()
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        file.seek(0)
        data = file.read()
    return status, pickle.loads(data) if data else None


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
