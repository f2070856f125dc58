"""A class on one machine: several processes that load a model and write replies at once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm.auto import tqdm

from qwen3lab.bench.fresh_process import in_fresh_processes, wait_for_others
from qwen3lab.bench.measuring import machine, prompt
from qwen3lab.bench.memory import own_and_shared_bytes
from qwen3lab.bench.peers import CONTESTANTS, Ours, Theirs
from qwen3lab.bench.plan import PROMPT_TO_DECODE, BenchPlan, weights_of
from qwen3lab.bench.report import Measurement, Report

STUDENTS = (4, 8, 16)
"""Numbers of processes at once."""

NOTE = (
    "Each student is a process of its own that loads the weights and writes replies of the given "
    "length, all at the same time. Own memory: pages that no other process has (USS), libraries "
    "and weights included; shared memory: pages that other processes have mapped, too. A server "
    "needs the own memory of each student, and the shared memory once."
)


@dataclass(frozen=True)
class Student:
    """What one process measured.

    Attributes:
        starts: time of the beginning of each reply, seconds of the machine's clock.
        ends: time of its end.
        memory: own and shared bytes, while all processes had their model in memory.
    """

    starts: tuple[float, ...]
    ends: tuple[float, ...]
    memory: tuple[int, int] | None


def run_class(
    plan: BenchPlan,
    *,
    students: Sequence[int] = STUDENTS,
    sides: Sequence[str] = (Ours.name, Theirs.name),
    progress: bool = True,
) -> Report:
    """Measure replies per minute and memory of several processes at once.

    A reply is `plan.decode` tokens after a short prompt.

    Args:
        plan: the model or shape; uses decode, repeats, threads, device and dtype.
        students: numbers of processes.
        sides: names of the libraries.
        progress: show a bar.

    Raises:
        BenchError: a process died, as where memory runs out.
    """
    rows = []
    with weights_of(plan) as folder, tqdm(total=sum(students), disable=not progress) as bar:
        for n in students:
            found = {side: in_fresh_processes(n, _student, side, folder, plan) for side in sides}
            rows += _rows(n, found)
            bar.update(n)
    threads = plan.threads or torch.get_num_threads()
    agreement = "The logits of the libraries are not compared here; the suite decode does so."
    title = f"A class of students: {plan.title}, replies of {plan.decode} tokens"
    header = machine(plan, threads)
    return Report(title, header, agreement, 0.0, rows, sizes="students", notes=(NOTE,))


@torch.no_grad()
def _student(who: str, folder: Path, plan: BenchPlan) -> Student:
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    side = CONTESTANTS[who](folder, plan.device, plan.dtype)
    assert isinstance(side, Ours | Theirs), f"{who} does not decode"
    ids = prompt(side, PROMPT_TO_DECODE)
    side.decode(ids, plan.decode)
    starts, ends = [], []
    for _ in range(plan.repeats):
        wait_for_others()
        # The system's clock, which is the same in all processes.
        starts.append(time.time())
        side.decode(ids, plan.decode)
        ends.append(time.time())
    wait_for_others()
    memory = own_and_shared_bytes()
    wait_for_others()
    return Student(tuple(starts), tuple(ends), memory)


def _rows(n: int, found: dict[str, list[Student]]) -> list[Measurement]:
    """The rows of one number of students."""

    def row(case: str, unit: str, values: dict[str, tuple[float, ...]]) -> Measurement:
        return Measurement(case, n, unit, values)

    return [
        row("replies of all students", "replies/min", {s: _rates(of) for s, of in found.items()}),
        row("time of a reply", "s", {s: _durations(of) for s, of in found.items()}),
        row("own memory of a student", "MiB", {s: _mib(of, 0) for s, of in found.items()}),
        row("shared memory", "MiB", {s: _mib(of, 1) for s, of in found.items()}),
    ]


def _rates(students: Sequence[Student]) -> tuple[float, ...]:
    """Replies per minute of all students, by round: until the last one has its reply."""
    rounds = zip(
        zip(*(each.starts for each in students), strict=True),
        zip(*(each.ends for each in students), strict=True),
        strict=True,
    )
    return tuple(60 * len(students) / (max(ends) - min(starts)) for starts, ends in rounds)


def _durations(students: Sequence[Student]) -> tuple[float, ...]:
    return tuple(
        end - start for each in students for start, end in zip(each.starts, each.ends, strict=True)
    )


def _mib(students: Sequence[Student], which: int) -> tuple[float, ...]:
    return tuple(each.memory[which] / 2**20 for each in students if each.memory is not None)
