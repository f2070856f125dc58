import json
import os
import re
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch

from qwen3lab import bench
from qwen3lab.bench import BenchPlan, Report, plan as plan_module, random_checkpoint
from qwen3lab.bench.fresh_process import in_fresh_process
from qwen3lab.bench.measuring import in_turns
from qwen3lab.bench.memory import extra_bytes
from qwen3lab.bench.peers import Ours, Scratch, Sight, Theirs
from qwen3lab.bench.plan import check_memory, weights_of
from qwen3lab.bench.report import Measurement
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.errors import BenchError, CheckpointError
from qwen3lab.loading import load_model
from qwen3lab.streaming.streamed_model import least_memory
from tests.fresh_process import in_a_fresh_process, needs_compiler
from tests.reference import hf_random, tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights")
    hf_random("experts").save_pretrained(path)
    return path


def quick(folder, **options):
    return BenchPlan(model=str(folder), tokens=(24,), decode=5, repeats=2, **options)


def test_qwen3lab_and_transformers_compute_the_same(folder):
    ours, theirs = (side(folder, "cpu", "float32") for side in (Ours, Theirs))
    ids = tokens(batch=1, length=12)
    with torch.no_grad():
        torch.testing.assert_close(ours.forward(ids), theirs.forward(ids), atol=1e-5, rtol=1e-5)
        recorded, peer = ours.record(ids)[1], theirs.record(ids)
        assert ours.decode(ids, 7) == theirs.decode(ids, 7)
        assert ours.decode_recording(ids, 7) == theirs.decode_recording(ids, 7)
    assert len(peer.attentions) == len(peer.router_logits) == 3
    assert sum("hook_rot_q" in name for name in recorded) == 3
    assert sum("hook_router_logits" in name for name in recorded) == 3


@pytest.fixture
def two_sides(monkeypatch):
    """No peers but transformers, to be quick, and memory as if it had been measured.

    Memory is measured in fresh processes, each of which imports torch: other tests do so.
    """
    for suite in ("side_by_side", "overhead"):
        module = f"qwen3lab.bench.suites.{suite}"
        monkeypatch.setattr(f"{module}.installed", lambda: [Ours.name, Theirs.name])
        monkeypatch.setattr(f"{module}.extra_bytes", seeming_bytes)


def seeming_bytes(who, case, folder, *, tokens, device, dtype, threads):
    """A different number of MiB for each case of each side."""
    factor = {"qwen3lab": 1, "transformers": 8}[who]
    return factor * {"forward": 1, "record": 2, "record_all": 4}[case] * 2**20


def test_every_second_round_runs_in_reverse_order():
    order = []
    jobs = {name: partial(order.append, name) for name in "abc"}
    seconds = in_turns(jobs, 3, lambda: None)
    assert "".join(order) == "abccbaabccba"
    assert {name: len(found) for name, found in seconds.items()} == {"a": 3, "b": 3, "c": 3}


@pytest.mark.usefixtures("two_sides")
def test_a_report_has_every_case_and_the_thread_count_is_restored(folder):
    before = torch.get_num_threads()
    report = bench.run(quick(folder, threads=1), progress=False)
    assert torch.get_num_threads() == before
    assert [row.unit for row in report.rows] == ["ms"] * 2 + ["tokens/s"] * 2 + ["MiB"] * 2
    for row in report.rows[:4]:
        assert set(row.measured) == {"qwen3lab", "transformers"} and row.ratio > 0
        assert all(len(runs) == 2 for runs in row.measured.values())
    assert [row.measured for row in report.rows[4:]] == [
        {"qwen3lab": (1.0,), "transformers": (8.0,)},
        {"qwen3lab": (2.0,), "transformers": (16.0,)},
    ]
    assert 0 <= report.gap < 1e-5
    assert json.loads(json.dumps(report.to_dict()))["rows"][0]["case"] == "forward"
    assert report.machine["allocator"]


@pytest.mark.usefixtures("two_sides")
def test_a_suite_has_only_its_own_cases(folder):
    rows = bench.run(quick(folder), ["decode"], progress=False).rows
    assert [row.case for row in rows] == ["decode", "decode, recording attention and routing"]
    rows = bench.run(quick(folder), ["record"], progress=False).rows
    assert [row.unit for row in rows] == ["ms", "MiB"]


@pytest.mark.slow
@pytest.mark.peer
def test_peers_are_measured_if_they_are_installed(tmp_path):
    pytest.importorskip("transformer_lens")
    pytest.importorskip("nnsight")
    from tests.model.test_peer_transformerlens import word_tokenizer

    hf_random("experts").save_pretrained(tmp_path)
    word_tokenizer(97).save_pretrained(tmp_path)
    rows = bench.run(quick(tmp_path), ["forward", "record"], progress=False).rows
    assert [row.unit for row in rows] == ["ms", "ms", "MiB", "MiB"]
    for row in rows:
        assert {"qwen3lab", "transformers", "TransformerLens", "nnsight"} <= set(row.measured)
        assert row.unit == "ms" or len(row.measured["qwen3lab"]) == 1


@pytest.mark.peer
@pytest.mark.parametrize("name", ["experts", "experts, one dense layer", "dense, tied"])
def test_nnsight_records_the_attention_of_transformers(tmp_path, name):
    pytest.importorskip("nnsight")
    hf_random(name).save_pretrained(tmp_path)
    sight, theirs = (side(tmp_path, "cpu", "float32") for side in (Sight, Theirs))
    ids = tokens(batch=1, length=12)
    with torch.no_grad():
        assert torch.equal(sight.forward(ids), theirs.forward(ids))
        *kept, logits = sight.record(ids)
        peer = theirs.record(ids)
    assert torch.equal(logits, peer.logits)
    attentions = [value for value in kept if not isinstance(value, tuple) and value.ndim == 4]
    n_routers = {"experts": 3, "experts, one dense layer": 2, "dense, tied": 0}[name]
    assert len(kept) - len(attentions) == n_routers
    assert all(map(torch.equal, attentions, peer.attentions)) and len(attentions) == 3


@pytest.mark.scratch
@pytest.mark.parametrize("name", ["experts", "dense, tied"])
def test_llms_from_scratch_and_transformers_compute_the_same(tmp_path, name):
    pytest.importorskip("llms_from_scratch")
    hf_random(name).save_pretrained(tmp_path)
    scratch, theirs = (side(tmp_path, "cpu", "float32") for side in (Scratch, Theirs))
    ids = tokens(batch=1, length=12)
    with torch.no_grad():
        torch.testing.assert_close(scratch.forward(ids), theirs.forward(ids), atol=1e-5, rtol=1e-5)
        assert scratch.decode(ids, 7) == theirs.decode(ids, 7)


@pytest.mark.usefixtures("two_sides")
def test_recording_is_compared_with_plain_runs_and_its_memory_with_the_recorded_bytes(
    folder,
):
    report = bench.run_overhead(quick(folder), progress=False)
    own, others, own_reply, others_reply, memory = report.rows
    for row, unit in ((own, "ms"), (own_reply, "tokens/s")):
        assert list(row.measured) == ["qwen3lab", "qwen3lab, plain"] and row.unit == unit
    for row in (others, others_reply):
        assert list(row.measured) == ["qwen3lab", "transformers"]
    assert own.measured["qwen3lab"] == others.measured["qwen3lab"]
    # In each of 3 layers, float32: queries of 4 heads and keys of 2 heads with 16 values each,
    # a residual stream of 48 values, 8 router logits, 3 expert weights; and 3 indices in int64.
    per_token = 4 * (6 * 16 + 48 + 8 + 3) + 8 * 3
    assert memory.measured["recorded tensors"][0] * 2**20 == 3 * 24 * per_token
    assert memory.measured["qwen3lab"] == (4.0 - 1.0,)


def compiled_report(plan):
    return bench.run_compiled(plan, progress=False)


@pytest.mark.slow
@needs_compiler
def test_compiled_steps_are_compared_with_plain_steps(tmp_path):
    hf_random("dense, tied").save_pretrained(tmp_path)
    # In a new process, because torch cannot compile functions with the tests' shape checks.
    rows = in_a_fresh_process(compiled_report, quick(tmp_path)).rows
    assert [row.unit for row in rows] == ["s", "tokens/s"] * 2
    for row in rows[1::2]:
        assert list(row.measured) == ["qwen3lab", "qwen3lab, plain", "transformers"]


def test_models_with_different_logits_are_not_timed(folder, monkeypatch):
    original = Theirs.forward
    monkeypatch.setattr(Theirs, "forward", lambda self, ids: original(self, ids) + 0.5)
    with pytest.raises(BenchError, match="the logits of the libraries differ by"):
        bench.run(quick(folder), progress=False)


def row(unit, **measured):
    return Measurement("case", 8, unit, {"qwen3lab": (), **measured})


def test_the_ratio_compares_medians_with_the_best_peer():
    assert row("ms", qwen3lab=(30.0, 10.0, 20.0), other=(5.0, 10.0, 90.0)).ratio == 0.5
    assert row("tokens/s", qwen3lab=(30.0,), other=(10.0,)).ratio == 3
    assert row("MiB", qwen3lab=(2.0,), other=(8.0,)).ratio == pytest.approx(4)
    assert row("MiB", other=()).ratio is None and row("MiB", qwen3lab=(1.0,)).ratio is None
    several = row("ms", qwen3lab=(2.0,), slow=(9.0,), fast=(3.0,), absent=())
    assert several.best_peer == "fast" and several.ratio == pytest.approx(1.5)


def test_a_report_shows_medians_and_ranges():
    timed = row("ms", qwen3lab=(10.0, 12.0, 30.0), transformers=(20.0, 24.0, 1234.0))
    text = str(Report("some model", {"device": "cpu"}, "All agree.", 1e-6, [timed]))
    assert "12 ms (10 to 30)" in text
    assert "24 ms (20 to 1,234)" in text
    assert text.splitlines()[:2] == ["some model: device cpu", "All agree."]
    assert "not measured" in str(Report("m", {}, "", 0.0, [row("MiB", transformers=())]))


def test_the_figure_has_a_bar_for_each_row_with_a_ratio():
    rows = [row("ms", qwen3lab=(2.0,), other=(3.0,)), row("ms", qwen3lab=(1.0,))]
    figure = Report("m", {}, "", 0.0, rows).figure()
    (bars,) = figure.data
    assert list(bars.x) == pytest.approx([0.5]) and bars.base == 1
    assert "qwen3lab 2 ms" in bars.customdata[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_experts_are_compared_with_all_implementations_of_transformers(dtype, monkeypatch):
    shrink(monkeypatch)
    plan = BenchPlan(shape="qwen3-30b-a3b", layers=1, tokens=(1, 40), repeats=1, dtype=dtype)
    report = bench.run_experts(plan, progress=False)
    assert [set(row.measured) for row in report.rows] == [
        {"qwen3lab", "eager", "batched_mm", "grouped_mm"}
    ] * 2
    assert all(row.ratio > 0 for row in report.rows)
    monkeypatch.setattr("qwen3lab.bench.suites.experts.MAX_GATHERED_BYTES", 8 * 3 * 64 * 768 * 4)
    report = bench.run_experts(plan, progress=False)
    assert ["batched_mm" in row.measured for row in report.rows] == [True, False]
    with pytest.raises(BenchError, match=r"qwen3-0\.6b has no experts: choose a shape such as"):
        bench.run_experts(BenchPlan(), progress=False)


@pytest.mark.slow
def test_a_streamed_model_is_compared_with_the_loaded_one_and_with_reading_the_files(folder):
    plan = replace(quick(folder), repeats=1, decode=3)
    least = least_memory(load_model(folder).config, torch.float32)
    report = bench.run_stream(plan, memory=f"{least}B", progress=False)
    time, rate, reply, memory = report.rows
    assert set(time.measured) == {"qwen3lab", "loaded in memory"}
    assert set(rate.measured) == {"qwen3lab", "reading the files"} and rate.unit == "MB/s"
    assert set(reply.measured) == {"qwen3lab", "loaded in memory"} and reply.unit == "tokens/s"
    assert all(len(runs) == 1 for row in report.rows for runs in row.measured.values())
    assert report.gap < 1e-5 and memory.unit == "MiB"
    # The least memory has no room to cache any block.
    assert "For the reply, 100% of the block weights" in report.notes[-1]


@pytest.mark.slow
def test_published_shapes_run_from_sparse_files(monkeypatch):
    shrink(monkeypatch, d_vocab=50)
    plan = BenchPlan(layers=2, tokens=(5,), dtype="bfloat16", threads=1)
    reports = list(bench.run_shapes(plan, ["qwen3-0.6b", "qwen3-30b-a3b"], memory="1GB"))
    assert [[row.unit for row in report.rows] for report in reports] == [["s", "MiB"]] * 2
    assert all(report.rows[0].measured["qwen3lab"] != () for report in reports)
    assert "2 of its 28 layers" in str(reports[0]) and "2 of its 48 layers" in str(reports[1])
    with pytest.raises(BenchError, match="run without weights: leave out tiny-moe"):
        bench.run_shape(replace(plan, model="tiny-moe"))


def test_no_shape_runs_if_the_memory_is_too_small_for_one_of_them(monkeypatch):
    monkeypatch.setattr("qwen3lab.bench.suites.shapes.alone", None)  # Calling it would fail.
    # Embeddings and unembedding of 5120 x 151936 float32 values alone are 6.22 GB.
    message = r"8GB, but streaming .* qwen3-32b, all layers in float32"
    with pytest.raises(BenchError, match=message):
        next(bench.run_shapes(BenchPlan(layers=None), memory="8GB"))
    with pytest.raises(CheckpointError, match="memory is 'lots': expected a size such as"):
        next(bench.run_shapes(BenchPlan(layers=None), memory="lots"))


def test_invalid_stream_arguments_are_an_error_before_any_suite_runs(folder, monkeypatch):
    monkeypatch.setattr("qwen3lab.bench.runner.run", None)
    monkeypatch.setattr("qwen3lab.bench.suites.stream.weights_of", None)
    for options, message in [
        ({"memory": "8"}, "memory is '8': expected a size"),
        ({"memory": "8MB"}, "memory is 8MB, but streaming"),
        ({"memory": "8GB", "sparse": True}, "leave out --sparse or --model"),
    ]:
        with pytest.raises(ValueError, match=message):
            next(bench.run_suites(quick(folder), ["forward", "stream"], **options))
        with pytest.raises(ValueError, match=message):
            bench.run_stream(quick(folder), **options)


def test_the_memory_that_the_error_asks_for_suffices(folder):
    plan = quick(folder)
    with pytest.raises(BenchError) as error:
        check_memory([plan], "1MB")
    needed = re.search(r"needs ([\d.]+) GB", str(error.value))
    check_memory([plan], f"{needed[1]}GB")


def kill_process(signal_number):
    os.kill(os.getpid(), signal_number)


def test_the_death_of_a_measuring_process_is_a_bench_error():
    with pytest.raises(BenchError, match="died, probably because memory ran out"):
        in_fresh_process(kill_process, signal.SIGTERM)


def shrink(monkeypatch, **changes):
    """Give the published shapes a small width and vocabulary; their experts stay."""
    small = {
        name: replace(config, **({"d_vocab": 50, "d_model": 64} | changes))
        for name, config in plan_module.PUBLISHED.items()
    }
    monkeypatch.setattr(plan_module, "PUBLISHED", small)


def test_memory_of_recording_includes_the_patterns_that_transformers_returns(folder):
    options = {"tokens": 500, "device": "cpu", "dtype": "float32", "threads": 1}
    peer = extra_bytes("transformers", "record", folder, **options)
    if peer is None:
        pytest.skip("this system does not report a process' peak memory")
    # Patterns of 500 x 500 float32 values, 4 heads, 3 layers; qwen3lab records queries and keys.
    patterns = 3 * 4 * 500 * 500 * 4
    assert peer > patterns
    assert extra_bytes("qwen3lab", "record", folder, **options) < patterns


@pytest.mark.parametrize("shape", ["qwen3-0.6b", "Qwen/Qwen3-30B-A3B"])
def test_random_weights_have_the_shape_of_the_plan(shape, monkeypatch):
    # The embeddings of the published vocabulary alone are 600 MB, so make it smaller.
    small = {
        name: replace(config, d_vocab=50, n_experts=min(config.n_experts, 8))
        for name, config in plan_module.PUBLISHED.items()
    }
    monkeypatch.setattr(plan_module, "PUBLISHED", small)
    with weights_of(BenchPlan(shape=shape, layers=1)) as folder:
        model = load_model(folder)
    assert model.config.n_layers == 1
    assert model.config.is_moe == ("30B" in shape)
    assert model.config.d_model == (2048 if "30B" in shape else 1024)


def test_random_weights_are_written_one_parameter_at_a_time(monkeypatch, tmp_path):
    written = []
    monkeypatch.setattr(
        random_checkpoint, "save_file", lambda parts, file, **_: written.append((parts, file))
    )
    monkeypatch.setattr(random_checkpoint, "describe", lambda *_, **index: written.append(index))
    config = replace(plan_module.PUBLISHED["Qwen/Qwen3-0.6B"], d_vocab=50, n_layers=2)
    random_checkpoint.write_random(config, tmp_path, device="cpu", dtype=torch.bfloat16)
    *files, index = written
    assert all(len(parts) == 1 for parts, _ in files)
    assert index["n_bytes"] == 2 * config.n_params
    values = {name: value for parts, _ in files for name, value in parts.items()}
    assert index["where"].keys() == values.keys()
    assert bool((values["model.norm.weight"] == 1).all())
    assert float(values["model.layers.1.mlp.up_proj.weight"].std()) == pytest.approx(0.02, rel=0.01)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "repeats is 0: expected 1 or more"),
        ({"layers": 0}, "layers is 0"),
        ({"tokens": ()}, "expected lengths"),
        ({"dtype": "int7"}, "dtype 'int7' is unknown: choose from float32"),
        ({"device": "foo"}, "device 'foo' is unknown: use one such as cpu or cuda"),
    ],
)
def test_an_invalid_plan_is_an_error(options, message):
    with pytest.raises(BenchError, match=message):
        BenchPlan(**options)


def test_the_error_for_an_unknown_shape_lists_the_known_shapes():
    with pytest.raises(BenchError, match=r"'gpt-2' is unknown: choose from qwen3-0.6b"):
        bench.run(BenchPlan(shape="gpt-2"), progress=False)


def test_a_sweep_gives_the_answers_of_transformers_with_fewer_tokens():
    report = bench.run_budgets(
        BenchPlan(model="tiny-moe", repeats=1, threads=1), n=1, progress=False
    )
    answers, written = report.rows
    assert (answers.unit, answers.tokens, written.unit) == ("s", 6 * 16, "tokens")
    assert all(len(runs) == 1 for runs in answers.measured.values())
    assert report.gap <= 0.02
    assert written.measured["transformers"][0] > 3 * written.measured["qwen3lab"][0] > 0
    assert "of the answers are the same on both sides" in str(report)
    assert "answers" in str(report).splitlines()[2] and "Memory" not in str(report)


def test_different_answers_are_an_error(monkeypatch):
    from qwen3lab.bench.suites import budgets

    monkeypatch.setattr(budgets, "_answer", lambda *_: "something else")
    with pytest.raises(BenchError, match="only 0% of the answers agree"):
        bench.run_budgets(BenchPlan(model="tiny-moe", repeats=1), n=1, progress=False)


def test_the_sweep_needs_a_model():
    with pytest.raises(BenchError, match="random weights cannot solve problems: choose a model"):
        bench.run_budgets(BenchPlan(), progress=False)


def test_quantised_weights_are_measured_and_compared_with_unquantised_ones():
    pytest.importorskip("torchao")
    plan = BenchPlan(model="tiny-dense", tokens=(24,), decode=4, repeats=1, dtype="bfloat16")
    report = bench.run_quantised(plan, progress=False)
    kinds = ("unquantised", "int8", "int4")
    cases = [f"{case}, {kind}" for kind in kinds for case in CASES_PER_KIND]
    assert [row.case for row in report.rows] == cases
    weights = {r.case: r.measured["qwen3lab"][0] for r in report.rows if r.unit == "MiB"}
    config = load_model(find_folder("tiny-dense")).config
    matrices = 6 * (2 * 128 * 128 + 2 * 64 * 128 + 3 * 128 * 256)
    rows = 6 * (2 * 128 + 2 * 64 + 2 * 256 + 128)
    others = config.n_params - matrices
    assert weights["weights, unquantised"] == 2 * config.n_params / 2**20
    assert weights["weights, int8"] == (2 * others + matrices + 2 * rows) / 2**20
    assert weights["weights, int4"] == (2 * others + matrices / 2 + 4 * matrices / 32) / 2**20
    assert "int8 compared with bfloat16: Over" in str(report)
    assert "int4 compared with bfloat16: Over" in str(report)


CASES_PER_KIND = ("forward", "decode", "weights")


def test_the_fidelity_of_random_weights_is_not_measured(monkeypatch):
    pytest.importorskip("torchao")
    shrink(monkeypatch)
    plan = BenchPlan(tokens=(8,), decode=2, repeats=1, layers=1, dtype="bfloat16")
    report = bench.run_quantised(plan, progress=False)
    assert "not measured for random weights" in str(report) and "KL" not in str(report)
