"""Old module paths still work, with a warning; the root imports what is asked of it, no more."""

import json
import subprocess
import sys
from importlib import import_module
from operator import attrgetter

import pytest

import qwen3lab
from qwen3lab import _moved

NOW = {
    "allocator.map_large": "device.malloc.map_large",
    "bits.KINDS": "quantisation.packed_matrices.KINDS",
    "cache.KVCache": "model.kv_cache.KVCache",
    "captures.CudaGraphs": "acceleration.step_capture.CudaGraphs",
    "catalog.PUBLISHED": "config.catalog.PUBLISHED",
    "changes.Change": "interventions.routing_changes.Change",
    "chat.render": "text.chat_template.render",
    "chat.open_tokenizer": "text.tokenizer.open_tokenizer",
    "chat.ChatError": "errors.ChatError",
    "checkpoint.load_model": "loading.load_model",
    "checkpoint.embedded_models": "checkpoints.embedded.embedded_models",
    "checkpoint.find_folder": "checkpoints.folders.find_folder",
    "checkpoint.save_checkpoint": "checkpoints.writer.save_checkpoint",
    "checkpoint.DTYPES": "device.dtypes.DTYPES",
    "checkpoint.CheckpointError": "errors.CheckpointError",
    "compiled.COMPILERS": "acceleration.compiled_decoder.COMPILERS",
    "compiled.CompileError": "errors.CompileError",
    "export.to_xarray": "recording.xarray_export.to_xarray",
    "fields.flag": "config.json_fields.flag",
    "fields.ConfigError": "errors.ConfigError",
    "files.whole_file": "storage.atomic_files.whole_file",
    "files.Files": "storage.tensor_files.Files",
    "filling.assign": "checkpoints.tensor_plan.assign",
    "fingerprint.fingerprint": "recording.weights_fingerprint.fingerprint",
    "generate.Sampling": "generation.sampling.Sampling",
    "generate.decode": "generation.decoding.decode",
    "generate.pad_left": "model.batching.pad_left",
    "graphs.window_size": "acceleration.cuda_graph_decoder.window_size",
    "guides.Steering": "generation.thinking_control.Steering",
    "offload.current_stream": "device.host_transfer.current_stream",
    "ondisk.Job": "recording.layerwise.Job",
    "packing.bands": "quantisation.torch_int4_layout.bands",
    "positions.rotations": "model.positions.rotations",
    "prompts.Prompt": "text.prompt.Prompt",
    "published.split_name": "checkpoints.tensor_names.split_name",
    "quantised.quantise": "quantisation.quantised_model.quantise",
    "reply.Chat": "generation.reply.Chat",
    "rerouting.off": "interventions.rerouting.off",
    "shelf.Shelf": "streaming.weight_cache.WeightCache",
    "usage.HALF_LIFE": "streaming.eviction.HALF_LIFE",
    "views.AttentionView": "recording.views.AttentionView",
    "views.RecordingError": "errors.RecordingError",
    "weights.Weights": "checkpoints.safetensors_reader.CheckpointReader",
    "weights.CheckpointError": "errors.CheckpointError",
    "writing.write": "generation.batch_writer.write",
    "analysis.controls.compare_with_others": "experiments.controls.compare_with_others",
    "analysis.effects.group_losses": "experiments.effects.group_losses",
    "analysis.fidelity.fidelity": "experiments.fidelity.fidelity",
    "analysis.knockout.knock_out": "experiments.knockout.knock_out",
    "analysis.moved.moved_blocks": "analysis.value_weighted.moved_blocks",
    "analysis.shares.Share": "analysis.proportions.Share",
    "analysis.thoughts.sentence_kind": "analysis.thinking_text.sentence_kind",
    "analysis.windows.BLOCK": "analysis.map_windows.BLOCK",
    "analysis.writes.Writing": "analysis.expert_output.Writing",
    "tiny.arithmetic.apply": "tiny.world.arithmetic.apply",
    "tiny.batches.Batch": "tiny.training.batches.Batch",
    "tiny.code.Assignment": "tiny.world.programs.Assignment",
    "tiny.descent.optimizers": "tiny.training.optimisers.optimizers",
    "tiny.documents.Diet": "tiny.world.documents.Diet",
    "tiny.families.Family": "tiny.world.families.Family",
    "tiny.lists.draw": "tiny.world.lists.draw",
    "tiny.log.append_log": "tiny.training.training_log.append_log",
    "tiny.muon.Muon": "tiny.training.muon.Muon",
    "tiny.replies.held_out": "tiny.evaluation.accuracy.held_out",
    "tiny.stories.Pet": "tiny.world.stories.Pet",
    "tiny.swaps.Setting": "tiny.world.swaps.Setting",
    "tiny.words.ENGLISH": "tiny.world.common_words.ENGLISH",
    "tiny.card.write_card": "tiny.evaluation.card.write_card",
    "tiny.evaluate.evaluate": "tiny.evaluation.evaluate.evaluate",
    "tiny.inside.BestHead": "tiny.evaluation.internals.BestHead",
    "tiny.recipes.TINY_MOE": "tiny.training.recipes.TINY_MOE",
    "tiny.targets.Target": "tiny.evaluation.targets.Target",
    "tiny.tokenizer.write_tokenizer": "tiny.world.tokenizer.write_tokenizer",
    "tiny.trainer.Trainer": "tiny.training.trainer.Trainer",
}
"""Names of version 0.1 and their places now: at least one name from each module that moved."""

RENAMED = {
    "analysis.attention.HeadScores": "analysis.attention.HeadProfile",
    "analysis.attention.head_scores": "analysis.attention.head_profile",
    "analysis.balance.importance": "analysis.balance.expert_importance",
    "analysis.windows.Window": "analysis.map_windows.MapWindow",
    "bench.Plan": "bench.BenchPlan",
    "bench.Row": "bench.Measurement",
    "cache.Window": "model.kv_cache.CacheWindow",
    "captures.Capture": "acceleration.step_capture.GraphCapture",
    "captures.Step": "acceleration.step_capture.CapturedStep",
    "catalog.models": "config.catalog.model_table",
    "compiled.CompiledModel": "acceleration.compiled_decoder.CompiledDecoder",
    "generate.Runs": "generation.decoding.Decoder",
    "generate.Step": "generation.decoding.DecodingStep",
    "graphs.GraphedModel": "acceleration.cuda_graph_decoder.CudaGraphDecoder",
    "hooks.NOTHING": "hooks.NO_TAP",
    "positions.Place": "model.positions.Positions",
    "guides.Part": "generation.thinking_control.ReplyPart",
    "offload.Offload": "device.host_transfer.HostTransfer",
    "published.Part": "checkpoints.tensor_names.StoredPart",
    "shelf.Shelf": "streaming.weight_cache.WeightCache",
    "tiny.inside.head_scores": "tiny.evaluation.internals.diagnostic_head_scores",
    "usage.Usage": "streaming.eviction.UsageCounts",
    "weights.InMemory": "checkpoints.safetensors_reader.TensorsInMemory",
    "weights.Source": "checkpoints.safetensors_reader.TensorSource",
    "weights.Weights": "checkpoints.safetensors_reader.CheckpointReader",
    "writing.Row": "generation.batch_writer.OpenReply",
}
"""Names of version 0.1 that are called something else now."""


def found(path):
    module, _, name = path.rpartition(".")
    return getattr(import_module(f"qwen3lab.{module}"), name)


@pytest.fixture(autouse=True)
def not_yet_imported(monkeypatch):
    """No old path has been imported before: each warns once in a process."""
    for old in _moved.MOVED:
        package, _, name = f"qwen3lab.{old}".rpartition(".")
        monkeypatch.delitem(sys.modules, f"qwen3lab.{old}", raising=False)
        if package in sys.modules:
            monkeypatch.delitem(vars(sys.modules[package]), name, raising=False)


@pytest.mark.parametrize("old", _moved.MOVED)
def test_an_old_path_warns_with_the_new_one_and_the_version_without_it(old):
    places = {f"qwen3lab.{NOW[name].rpartition('.')[0]}" for name in NOW if under(old, name)}
    with pytest.warns(DeprecationWarning) as warned:
        import_module(f"qwen3lab.{old}")
    (message,) = [str(each.message) for each in warned]
    start, _, end = message.partition("; ")
    assert end == "the old path will be removed in version 0.4"
    before, _, after = start.partition(" is now ")
    assert before == f"qwen3lab.{old}"
    assert set(after.split(" and ")) == places


def under(module, name):
    return name.rpartition(".")[0] == module


@pytest.mark.filterwarnings("ignore:qwen3lab:DeprecationWarning")
@pytest.mark.parametrize(("old", "new"), (NOW | RENAMED).items())
def test_a_name_gives_the_same_object_by_its_old_path(old, new):
    assert found(old) is found(new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tiny.training.train_model", "tiny.pipeline.train_model"),
        ("tiny.world.WORLDS", "tiny.world.settings.WORLDS"),
    ],
)
def test_a_package_with_an_old_modules_path_still_has_its_names(old, new):
    with pytest.warns(DeprecationWarning, match=f"qwen3lab.{old} is now qwen3lab.{new};"):
        assert found(old) is found(new)


def test_all_renamed_names_are_tried():
    new = {f"{place}.{name}" for place, names in _moved.RENAMED.items() for name in names.values()}
    assert new == set(RENAMED.values())


@pytest.mark.filterwarnings("ignore:qwen3lab:DeprecationWarning")
@pytest.mark.parametrize("module", ["cache", "tiny.card", "bench", "analysis.attention"])
def test_a_name_that_never_was_is_an_attribute_error(module):
    with pytest.raises(AttributeError, match=f"module 'qwen3lab.{module}' has no attribute 'nil'"):
        found(f"{module}.nil")


@pytest.mark.parametrize("name", ["nil", "tiny.nil"])
def test_a_module_that_never_was_is_still_not_found(name):
    with pytest.raises(ModuleNotFoundError, match=f"No module named 'qwen3lab.{name}'"):
        import_module(f"qwen3lab.{name}")
    with pytest.raises(AttributeError, match="attribute"):
        attrgetter(name)(qwen3lab)


OLD_LINES = """\
import qwen3lab.cache
from qwen3lab.chat import render
from qwen3lab import graphs
qwen3lab.guides
import qwen3lab.tiny.card
from qwen3lab.analysis import shares
qwen3lab.bench.Plan
qwen3lab.analysis.balance.importance
from qwen3lab.bench import Row
"""
FRESH = f"""
import json, sys, warnings
found = {{}}
heavy = ["torch", "transformers", "plotly", "numpy", "pandas"]

import qwen3lab
found["listed"] = dir(qwen3lab)
found["imported"] = [name for name in heavy if name in sys.modules]

from qwen3lab.cli import main
sys.argv = ["qwen3lab", "--help"]
try:
    main()
except SystemExit as exit:
    found["exit"] = exit.code
found["imported for help"] = [name for name in heavy if name in sys.modules]

found["question"] = qwen3lab.tiny.problems("arithmetic", n=1, steps=2)[0].question
found["unresolved"] = [name for name in dir(qwen3lab) if not hasattr(qwen3lab, name)]
found["modules"] = [name for name in dir(qwen3lab) if "qwen3lab." + name in sys.modules]

with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    exec(compile({OLD_LINES!r}, "notebook.py", "exec"))
found["warned"] = [[each.filename, each.lineno] for each in warned]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def fresh():
    """What a process sees that has just imported the package, without the checks of shapes."""
    ran = subprocess.run(
        [sys.executable, "-c", FRESH], capture_output=True, text=True, check=True, timeout=120
    )
    help_text, _, found = ran.stdout.strip().rpartition("\n")
    return {"help": help_text} | json.loads(found)


def test_the_package_is_imported_without_the_large_libraries(fresh):
    assert fresh["imported"] == []


def test_help_is_shown_without_the_large_libraries(fresh):
    assert "Explore and interpret the Qwen3 family" in fresh["help"]
    assert fresh["exit"] in (0, None)
    assert fresh["imported for help"] == []


def test_completion_shows_the_packages_and_what_people_call(fresh):
    assert {"analysis", "experiments", "figures", "thinking", "tiny", "widgets"} <= set(
        fresh["modules"]
    )
    assert {"Lab", "Recording", "Sampling", "load", "models"} <= set(fresh["listed"])


def test_each_name_that_completion_shows_is_there(fresh):
    assert fresh["unresolved"] == []


def test_a_package_is_there_after_a_bare_import(fresh):
    assert any(character.isdigit() for character in fresh["question"])


def test_the_warning_points_at_the_line_that_uses_the_old_path(fresh):
    lines = range(1, 1 + len(OLD_LINES.splitlines()))
    assert {tuple(each) for each in fresh["warned"]} == {("notebook.py", line) for line in lines}


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [(kind, old, new) for kind, names in _moved.ATTRIBUTES.items() for old, new in names.items()],
)
def test_an_attribute_of_a_state_still_has_its_old_name(kind, old, new):
    modules = ("state", "attention_state", "routing_state", "thinking_state", "nursery")
    places = [import_module(f"qwen3lab.widgets.explorers.{module}") for module in modules]
    state = next(getattr(place, kind) for place in places if hasattr(place, kind))()
    with pytest.warns(DeprecationWarning, match=rf"{kind}\.{old} is now {kind}\.{new};"):
        assert getattr(state, old) == getattr(state, new)
    with pytest.raises(AttributeError, match="no attribute 'nil'"):
        _ = state.nil
