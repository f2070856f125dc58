"""Peak memory of one case in a process of its own, so that nothing else is in the way."""

from contextlib import suppress
from pathlib import Path

import torch

from qwen3lab.bench.fresh_process import in_fresh_process
from qwen3lab.bench.peers import CONTESTANTS
from qwen3lab.device.malloc import map_large

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def extra_bytes(
    who: str, case: str, folder: Path, *, tokens: int, device: str, dtype: str, threads: int
) -> int | None:
    """Most bytes above the loaded weights while a case ran.

    Args:
        who: a contestant's name.
        case: its method, "forward" or "record".
        folder: with the weights.
        tokens: length of the prompt.
        device: such as "cpu" or "cuda".
        dtype: of the weights.
        threads: of the CPU.

    Returns:
        Bytes of the GPU where it ran on one, else of the process; None where the system
        cannot tell (it must be Linux).

    Raises:
        BenchError: the process died.
    """
    return in_fresh_process(_measured, who, case, folder, tokens, device, dtype, threads)


@torch.no_grad()
def _measured(
    who: str, case: str, folder: Path, tokens: int, device: str, dtype: str, threads: int
) -> int | None:
    torch.set_num_threads(threads)
    # Else what glibc happens not to give back would be counted, for ours and for the others.
    map_large()
    contestant = CONTESTANTS[who](folder, device, dtype)
    ids = torch.arange(tokens, device=device)[None] % contestant.d_vocab
    # Touch every page: weights that are mapped from a file are not in memory before.
    for parameter in contestant.model.parameters():
        parameter.sum()
    getattr(contestant, case)(ids[:, :1])
    before = start_counting(device)
    kept = getattr(contestant, case)(ids)
    after = peak_bytes(device)
    del kept
    return None if before is None or after is None else after - before


def start_counting(device: str) -> int | None:
    """Bytes in use now; the peak is counted from here on."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with suppress(OSError):
        RESET.write_text("5")
        return _status("VmRSS")
    return None


def peak_bytes(device: str) -> int | None:
    """Most bytes in use since `start_counting`; None where the system cannot tell."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return _status("VmHWM")


def _status(field: str) -> int | None:
    """A line of the process' status, in bytes."""
    with suppress(OSError):
        lines = STATUS.read_text().splitlines()
        return next((int(s.split()[1]) * 1024 for s in lines if s.startswith(field)), None)
    return None
