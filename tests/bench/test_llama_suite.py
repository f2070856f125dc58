"""The benchmark beside llama.cpp."""

import pytest

from qwen3lab import bench
from qwen3lab.bench import BenchPlan, llama_cpp_peer
from qwen3lab.errors import BenchError


def test_what_is_not_installed_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(llama_cpp_peer, "find_spec", lambda module: None)
    with pytest.raises(BenchError, match="needs llama-cpp-python and gguf: pip install llama-cpp"):
        bench.run_llama(BenchPlan(), progress=False)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.llama
def test_decoding_and_prompts_stand_beside_those_of_llama_cpp(dtype):
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    plan = BenchPlan(model="tiny-dense", tokens=(24,), decode=3, repeats=1, dtype=dtype, threads=1)
    report = bench.run_llama(plan, progress=False)
    kinds = ["F32"] if dtype == "float32" else ["BF16", "Q8_0"]
    wanted = ("prompt", "decode", "decode recorded")
    assert [row.case for row in report.rows] == [
        f"{case}, {kind}" for kind in kinds for case in wanted
    ]
    assert all(list(row.measured) == ["qwen3lab", "llama.cpp"] for row in report.rows)
    assert report.gap < (1e-4 if dtype == "float32" else 0.1)
