"""Peak memory of one case, measured in a separate process."""

from contextlib import suppress
from pathlib import Path

import torch

from qwen3lab.bench.fresh_process import in_fresh_process
from qwen3lab.bench.peers import CONTESTANTS
from qwen3lab.device.malloc import map_large

STATUS_FILE, RESET_FILE = Path("/proc/self/status"), Path("/proc/self/clear_refs")
ROLLUP_FILE = Path("/proc/self/smaps_rollup")
WARM_UP_SHARE = 8
"""Of the prompt's tokens, one in so many runs before the memory is counted."""
RESET_PEAK = "5"
"""Written to clear_refs, it resets VmHWM to the current memory; see `man 5 proc`."""


def extra_bytes(
    who: str, case: str, folder: Path, *, tokens: int, device: str, dtype: str, threads: int
) -> int | None:
    """Peak memory of a case above the memory with loaded weights, after a shorter prompt.

    Args:
        who: name of a library in `peers.CONTESTANTS`.
        case: its method, such as "forward" or "record".
        folder: folder of the weights.
        tokens: length of the prompt.
        device: such as "cpu" or "cuda".
        dtype: dtype of the weights.
        threads: number of CPU threads.

    Returns:
        Bytes: of GPU memory if the device is a GPU, else of the process. None if the system does
        not report a process' peak memory (Linux does).

    Raises:
        BenchError: the process died.
    """
    return in_fresh_process(_extra_bytes, who, case, folder, tokens, device, dtype, threads)


@torch.no_grad()
def _extra_bytes(
    who: str, case: str, folder: Path, tokens: int, device: str, dtype: str, threads: int
) -> int | None:
    torch.set_num_threads(threads)
    # Without this, freed memory that glibc does not return to the system would count.
    map_large()
    contestant = CONTESTANTS[who](folder, device, dtype)
    ids = torch.arange(tokens, device=device)[None] % contestant.d_vocab
    # Touch every page: weights that are mapped from a file are not in memory until they are read.
    for parameter in contestant.model.parameters():
        parameter.sum()
    # A shorter prompt loads the code and buffers of the libraries, 5 MiB that are no activations.
    getattr(contestant, case)(ids[:, : max(tokens // WARM_UP_SHARE, 1)])
    before = start_counting(device)
    result = getattr(contestant, case)(ids)
    after = peak_bytes(device)
    del result  # It counts as a part of the peak.
    return None if before is None or after is None else after - before


def start_counting(device: str) -> int | None:
    """Reset the peak; return the bytes in use now, or None if the system does not report them."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    with suppress(OSError):
        RESET_FILE.write_text(RESET_PEAK)
        return _status_bytes("VmRSS")
    return None


def peak_bytes(device: str) -> int | None:
    """Peak memory since `start_counting`, in bytes; None if the system does not report it."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated()
    return _status_bytes("VmHWM")


def own_and_shared_bytes() -> tuple[int, int] | None:
    """Bytes of this process that no other one has (USS), and those that it shares with others.

    Returns:
        None if the system does not say it; Linux does. See `man 5 proc`, /proc/pid/smaps.
    """
    with suppress(OSError):
        fields = [line.split() for line in ROLLUP_FILE.read_text().splitlines()[1:]]
        sizes = {name.rstrip(":"): int(kib) * 1024 for name, kib, *_ in fields}
        own, shared = (
            sum(sizes[f"{kind}_{state}"] for state in ("Clean", "Dirty"))
            for kind in ("Private", "Shared")
        )
        return own, shared
    return None


def _status_bytes(field: str) -> int | None:
    """A field of /proc/self/status, in bytes."""
    with suppress(OSError):
        lines = STATUS_FILE.read_text().splitlines()
        return next((int(s.split()[1]) * 1024 for s in lines if s.startswith(field)), None)
    return None
