"""What a process takes for tensors that come and go beside others that stay."""

import sys

import pytest
import torch

from qwen3lab.bench.memory import peak_bytes, start_counting
from qwen3lab.device.malloc import keep_freed, map_large
from tests.fresh_process import in_a_fresh_process

MIB = 2**20
N, STAYING, GOING = 40, MIB, 3 * MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")


def taken(setting):
    """Bytes that a process takes where, after a first round, one tensor stays for one that goes."""
    setting()
    for _ in range(2):
        torch.ones(8 * GOING, dtype=torch.uint8)
    before, kept = start_counting("cpu"), []
    for _ in range(N):
        passing = torch.ones(GOING, dtype=torch.uint8)
        kept.append(torch.ones(STAYING, dtype=torch.uint8))
        del passing
    return peak_bytes("cpu") - before


def faults_of(setting):
    """Pages that the system has to provide for the same tensor, made and freed again and again."""
    import resource

    setting()
    for _ in range(3):
        torch.ones(64 * MIB, dtype=torch.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(64 * MIB, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def taken_and_faults_of(setting):
    return taken(setting), faults_of(setting)


@pytest.fixture(scope="module")
def mapped():
    """Bytes taken, and page faults, of a process that maps large tensors."""
    return in_a_fresh_process(taken_and_faults_of, map_large)


def test_where_large_tensors_are_mapped_only_those_that_live_take_memory(mapped):
    needed = N * STAYING + GOING
    assert needed - MIB <= mapped[0] < 1.05 * needed


def test_what_is_freed_and_kept_is_not_provided_anew(mapped):
    assert in_a_fresh_process(faults_of, keep_freed) < 1_000 < mapped[1]
