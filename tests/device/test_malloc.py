"""Memory use and page faults of a process under each setting of the C allocator."""

import sys

import pytest
import torch

from qwen3lab.bench.memory import peak_bytes, start_counting
from qwen3lab.device.malloc import keep_freed, map_large
from tests.fresh_process import in_a_fresh_process

MIB = 2**20
N, KEPT_BYTES, FREED_BYTES = 40, MIB, 3 * MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs glibc, on Linux")


def peak_memory(setting):
    """Peak bytes of a process that allocates pairs of tensors and frees one of each pair."""
    setting()
    for _ in range(2):
        torch.ones(8 * FREED_BYTES, dtype=torch.uint8)
    before, kept = start_counting("cpu"), []
    for _ in range(N):
        temporary = torch.ones(FREED_BYTES, dtype=torch.uint8)
        kept.append(torch.ones(KEPT_BYTES, dtype=torch.uint8))
        del temporary
    return peak_bytes("cpu") - before


def faults_of(setting):
    """Minor page faults while a tensor of the same size is allocated and freed five times.

    The least of three attempts: a small allocation of another thread may split the freed memory.
    """
    import resource

    setting()
    for _ in range(3):
        torch.ones(64 * MIB, dtype=torch.uint8)
    attempts = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            torch.ones(64 * MIB, dtype=torch.uint8)
        attempts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return min(attempts)


def peak_memory_and_faults_of(setting):
    return peak_memory(setting), faults_of(setting)


@pytest.fixture(scope="module")
def mapped():
    """Peak bytes and page faults of a process that maps large tensors."""
    return in_a_fresh_process(peak_memory_and_faults_of, map_large)


def test_with_mapped_tensors_only_live_tensors_use_memory(mapped):
    needed = N * KEPT_BYTES + FREED_BYTES
    assert needed - MIB <= mapped[0] < 1.05 * needed


def test_kept_memory_is_reused_without_page_faults(mapped):
    assert in_a_fresh_process(faults_of, keep_freed) < 1_000 < mapped[1]
