"""Jobs that write files are killed at drawn moments and gone on with in another process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interrupts.cases import N_CASES, SEED

ROOT = Path(__file__).parents[2]
KILLS_PER_INTERRUPT = 0.05


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the cases are forked")
def test_a_killed_job_is_gone_on_with_to_the_same_values():
    n = max(12, round(N_CASES * KILLS_PER_INTERRUPT))
    line = [sys.executable, "-m", "tests.interrupts.kills", str(n), str(SEED)]
    alone = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(line, cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert sum(found["kills"].values()) >= len(found["kills"]) > 5
    assert not found["findings"], "\n".join(found["findings"])
