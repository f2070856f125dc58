"""Plans of absurd sizes are refused before anything is run."""

import json

import pytest

from qwen3lab import thinking, tiny
from qwen3lab.errors import ResultsError
from qwen3lab.thinking.limits import check_samples
from qwen3lab.thinking.swept import Sweep


@pytest.fixture(scope="module")
def problems(tiny_lab):
    return tiny.chains(tiny_lab.tokenizer, n=2, steps=(2,))


@pytest.fixture(scope="module")
def chat(tiny_lab):
    return tiny_lab.chat("3+2*7-1=?", seed=0)


@pytest.mark.parametrize("samples", [2**31, 2**63, 10**30])
def test_a_sweep_of_too_many_replies_is_refused(tiny_lab, problems, tmp_path, samples):
    path = tmp_path / "s.jsonl"
    with pytest.raises(ValueError, match=rf"are {samples * 2:,} replies: expected at most"):
        thinking.sweep(tiny_lab, problems, (0, 4), samples=samples, path=path, progress=False)
    assert not path.exists()


def test_samples_of_one_batch_are_limited(tiny_lab, chat):
    for run in (thinking.importance, thinking.convergence):
        with pytest.raises(ValueError, match="samples is 2,147,483,648: expected at most 10,000"):
            run(tiny_lab, chat, samples=2**31, progress=False)


@pytest.mark.parametrize(("samples", "reason"), [(0, "is 0"), (-1, "is -1"), (True, "type bool")])
def test_samples_that_are_no_number_of_samples_are_refused(samples, reason):
    with pytest.raises(ValueError, match=f"samples {reason}|samples is of {reason}"):
        check_samples(samples)


def test_a_batch_of_no_replies_is_refused(tiny_lab, problems):
    with pytest.raises(ValueError, match="batch is 0: expected 1 reply or more"):
        thinking.sweep(tiny_lab, problems, (0, 4), batch=0, progress=False)


def test_a_number_in_a_sweep_file_fills_no_memory(tiny_lab, problems, tmp_path):
    path = tmp_path / "s.jsonl"
    thinking.sweep(tiny_lab, problems, (0, 4), path=path, progress=False)
    first, *rest = path.read_text("utf-8").split("\n")
    path.write_text("\n".join([json.dumps(json.loads(first) | {"samples": 2**31}), *rest]), "utf-8")
    with pytest.raises(ResultsError, match="checksum is not that of its text"):
        Sweep.load(path)
    plan = json.loads(first) | {"samples": 2**31}
    del plan["crc32"]
    path.write_text(json.dumps(plan) + "\n", "utf-8")
    with pytest.raises(ResultsError, match="4,294,967,296 replies: expected at most"):
        Sweep.load(path)
