"""The benchmark of many replies of mixed length."""

import pytest

from qwen3lab import bench
from qwen3lab.bench import BenchPlan
from qwen3lab.bench.suites import serve
from qwen3lab.errors import BenchError
from tests.reference import hf_random


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    hf_random("experts").save_pretrained(path)
    return BenchPlan(model=str(path), tokens=(24,), decode=4, repeats=1)


def test_continuous_batches_stand_beside_an_ideal_batch_and_static_ones(plan):
    report = bench.run_serve(plan, batch=3, batches=2, progress=False)
    assert [row.case for row in report.rows] == ["mixed lengths", "mixed lengths, recorded"]
    for row in report.rows:
        assert list(row.measured) == ["qwen3lab", serve.IDEAL, serve.STATIC]
        assert row.unit == "tokens/s" and all(len(runs) == 1 for runs in row.measured.values())
    assert report.gap < 1e-5


def test_the_ideal_replies_are_as_many_and_have_the_mean_length():
    mixed = serve.Traffic.mixed(40, 20, 97)
    ideal = mixed.equal()
    assert len(set(mixed.lengths)) > 10 and len({len(p) for p in mixed.prompts}) > 10
    assert len(ideal.prompts) == 40 and len(set(ideal.lengths)) == 1
    assert abs(ideal.n_tokens - mixed.n_tokens) <= 20
    n_read = sum(map(len, mixed.prompts))
    assert abs(sum(map(len, ideal.prompts)) - n_read) <= 20


def test_replies_to_problems_are_those_of_transformers():
    # As many replies at once as there are kinds of problems: one of each kind.
    plan = BenchPlan(model="tiny-moe", decode=3, repeats=1, threads=1)
    report = bench.run_serve(plan, batch=3, batches=2, progress=False)
    row = report.rows[-1]
    assert row.case == "6 problems, static batches"
    assert set(row.measured) == {"qwen3lab", "transformers"}
    assert row.tokens > 6, "generated tokens"


def test_replies_that_differ_are_an_error():
    with pytest.raises(BenchError, match="only 50% of the replies agree"):
        serve._check_equal([[1, 2], [3]], [[1, 2], [4]])
