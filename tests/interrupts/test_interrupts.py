"""Every long job is interrupted at drawn moments; `QWEN3LAB_INTERRUPTS` says how often in all."""

import pytest

from tests.interrupts.cases import N_CASES, SEED, check_interrupt, drawn, run_whole
from tests.interrupts.jobs import JOBS
from tests.interrupts.table import World

SHARES = sum(job.share for job in JOBS)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World.make(tmp_path_factory.mktemp("interrupts"))


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_an_interrupted_job_keeps_its_promises(job, world):
    whole = run_whole(job, world)
    findings = []
    for moment in drawn(job, whole, max(2, round(N_CASES * job.share / SHARES)), SEED):
        try:
            check_interrupt(job, world, whole, moment)
        except Exception as error:
            findings.append(f"{moment}: {type(error).__name__}: {error}"[:1000])
    assert not findings, "\n".join([f"{len(findings)} findings", *findings[:20]])
