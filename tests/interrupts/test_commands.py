"""Commands that run long, interrupted as a terminal does: all processes of the group at once."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.interrupts.cases import SEED

ROOT = Path(__file__).parents[2]
MAIN = "from qwen3lab.cli import main; main()"


@pytest.mark.skipif(sys.platform == "win32", reason="signals to a group are those of POSIX")
def test_an_interrupted_benchmark_leaves_no_process_and_no_file(tmp_path):
    asked = ["bench", "--model", "tiny-moe", "--tokens", "8", "--decode", "4", "--repeats", "999"]
    alone = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", MAIN, *asked, "--suite", "forward"],
        cwd=ROOT,
        env=alone,
        start_new_session=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as bench:
        assert bench.stderr is not None
        bench.stderr.read(1)  # The progress bar: everything is imported.
        time.sleep(random.Random(SEED).uniform(0, 2))
        os.killpg(bench.pid, signal.SIGINT)
        said = bench.stderr.read().decode()
        assert bench.wait(timeout=60) == 130, said
    assert "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(bench.pid, 0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
