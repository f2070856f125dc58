import json
import math
import resource

import pytest
import torch
from safetensors.torch import save_file

from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import HookError, RecordingError
from qwen3lab.hooks.points import hook_names
from qwen3lab.model.transformer import Qwen3
from qwen3lab.recording.recorder import ATTENTION, ROUTING, Recorder
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.views import AttentionView
from tests.reference import small_config

CONFIG = small_config()
IDS = [3, 1, 4, 1, 5, 9, 2, 6]


@pytest.fixture(scope="module")
def model():
    built = Qwen3(CONFIG)
    built.init_weights(torch.Generator().manual_seed(0), std=0.3)
    return built


def record(model, ids=IDS, names=None, passes=None):
    recorder = Recorder(hook_names(model.config) if names is None else names)
    cache = model.new_cache()
    with torch.no_grad():
        for piece in passes or [ids]:
            model(torch.tensor([piece]), tap=recorder, cache=cache)
    texts = [f"t{token}" for token in ids]
    (kept,) = recorder.cut([(0, len(ids))])
    return Recording(torch.tensor(ids), texts, model.config, "small", kept, {"answer": (2, 5)})


def test_a_pattern_computed_from_queries_and_keys_equals_the_recorded_one(model):
    full = record(model)
    linear = record(model, names=[n for n in hook_names(CONFIG) if "hook_rot_" in n])
    for layer in range(3):
        expected = full[f"blocks.{layer}.attn.hook_pattern"]
        torch.testing.assert_close(linear.attention.pattern(layer), expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(linear.attention[layer, 3], expected[3], atol=1e-6, rtol=0)
    torch.testing.assert_close(linear.attention[-1, -1], linear.attention[2, 3])


def test_a_pattern_equals_one_computed_by_hand():
    config = Qwen3Config(
        d_model=4, n_layers=1, n_heads=2, n_kv_heads=1, d_head=2, d_mlp=4, d_vocab=5
    )
    # Two heads share one key head; scores are q.k / sqrt(2).
    q = torch.tensor([[[0.0, 0.0], [0.0, 0.0]], [[math.sqrt(2) * math.log(3), 0], [0, 0]]])
    k = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]]])
    view = AttentionView(config, {"blocks.0.attn.hook_rot_q": q, "blocks.0.attn.hook_rot_k": k})
    torch.testing.assert_close(view[0, 0], torch.tensor([[1.0, 0.0], [0.75, 0.25]]))
    torch.testing.assert_close(view[0, 1], torch.tensor([[1.0, 0.0], [0.5, 0.5]]))


def test_blocks_of_queries_concatenate_to_the_full_pattern(model):
    attention = record(model, names=[n for n in hook_names(CONFIG) if "hook_rot_" in n]).attention
    starts, blocks = zip(*attention.blocks(1, size=3), strict=True)
    assert starts == (0, 3, 6)
    torch.testing.assert_close(torch.cat(blocks, dim=1), attention.pattern(1))
    torch.testing.assert_close(
        attention.pattern(1, queries=slice(2, 5)), attention.pattern(1)[:, 2:5]
    )


def test_successive_passes_record_the_same_as_a_single_pass(model):
    single = record(model)
    successive = record(model, passes=[IDS[:3], IDS[3:4], IDS[4:5], IDS[5:]])
    assert successive.capture == single.capture == tuple(hook_names(CONFIG))
    for name in single.capture:
        torch.testing.assert_close(successive[name], single[name], atol=2e-5, rtol=1e-4, msg=name)


def test_routing_has_the_chosen_experts_best_first_with_their_applied_weights(model):
    routing = record(model).routing
    assert (routing.layers, len(routing)) == ((1, 2), 2)
    probabilities = routing.logits.softmax(-1)
    best = probabilities.sort(dim=-1, descending=True)
    assert torch.equal(routing.experts, best.indices[..., :2])
    expected = best.values[..., :2] / best.values[..., :2].sum(-1, keepdim=True)
    torch.testing.assert_close(routing.weights, expected)


def test_routing_as_a_table_has_one_row_per_chosen_expert(model):
    recording = record(model)
    table = recording.routing.to_pandas()
    assert list(table) == ["layer", "token", "token_text", "rank", "expert", "weight"]
    assert len(table) == 2 * len(IDS) * 2
    row = table[(table.layer == 2) & (table.token == 4) & (table["rank"] == 1)].iloc[0]
    assert row.expert == int(recording.routing.experts[1, 4, 1])
    assert row.weight == float(recording.routing.weights[1, 4, 1])
    assert row.token_text == "t5"


def test_the_routing_of_a_dense_model_is_empty_and_says_so():
    config = Qwen3Config(
        d_model=4, n_layers=1, n_heads=2, n_kv_heads=1, d_head=2, d_mlp=4, d_vocab=5
    )
    routing = Recording(torch.tensor([1, 2]), ["a", "b"], config, "dense", {}).routing
    assert not routing
    assert routing.experts.shape[0] == 0
    assert "this model is dense" in repr(routing)
    assert routing.to_pandas().empty


def test_a_loaded_recording_equals_the_saved_one(model, tmp_path):
    saved = record(model)
    saved.save(tmp_path / "run.safetensors")
    loaded = Recording.load(tmp_path / "run.safetensors")
    assert loaded.tokens == saved.tokens
    assert torch.equal(loaded.token_ids, saved.token_ids)
    assert (loaded.config, loaded.model_name) == (saved.config, "small")
    assert (loaded.capture, loaded.spans) == (saved.capture, {"answer": (2, 5)})
    for name in saved.capture:
        assert torch.equal(loaded.raw(name), saved.raw(name)), name
        assert loaded.raw(name).dtype == saved.raw(name).dtype
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_saved_file_has_its_version_and_capture_in_the_metadata(model, tmp_path):
    from safetensors import safe_open

    record(model).save(tmp_path / "run.safetensors")
    with safe_open(tmp_path / "run.safetensors", framework="pt") as file:
        metadata = json.loads(file.metadata()["qwen3lab"])
    assert metadata["version"]
    assert metadata["capture"] == list(hook_names(CONFIG))


def test_foreign_newer_damaged_and_missing_files_are_refused_with_a_reason(model, tmp_path):
    foreign, newer, cut = (tmp_path / name for name in ("foreign", "newer", "cut"))
    save_file({"x": torch.zeros(2)}, foreign)
    save_file({"x": torch.zeros(2)}, newer, metadata={"qwen3lab": '{"format": 99}'})
    record(model).save(cut)
    cut.write_bytes(cut.read_bytes()[:-100])
    for path, reason in [
        (foreign, "not a recording"),
        (newer, "format 99.*upgrade"),
        (cut, "not a complete safetensors file"),
        (tmp_path / "nothing", "does not exist"),
    ]:
        with pytest.raises(RecordingError, match=reason):
            Recording.load(path)


def test_a_recording_with_a_missing_tensor_is_refused(model, tmp_path):
    path = tmp_path / "run"
    recording = record(model)
    recording.save(path)
    metadata = {"qwen3lab": json.dumps(recording._metadata())}
    save_file({"token_ids": recording.token_ids}, path, metadata=metadata)
    with pytest.raises(RecordingError, match="damaged"):
        Recording.load(path)


def test_an_xarray_dataset_has_named_dimensions_and_tokens(model):
    recording = record(model)
    data = recording.to_xarray()
    queries = data["attn.hook_rot_q"]
    assert queries.dims == ("layer", "token", "head", "d_head")
    assert data["mlp.hook_router_logits"].dims == ("moe_layer", "token", "expert")
    assert data["mlp.hook_pre"].dims == ("token", "d_mlp") if "mlp.hook_pre" in data else True
    assert data["blocks.0.mlp.hook_pre"].dims == ("token", "d_mlp")
    assert data.moe_layer.values.tolist() == [1, 2]
    assert data.token_text.values.tolist() == recording.tokens
    assert data["attn.hook_pattern"].query_text.values.tolist() == recording.tokens
    chosen = data["mlp.hook_expert_indices"].sel(moe_layer=2, token=4).values
    assert chosen.tolist() == recording.routing.experts[1, 4].tolist()


def test_errors_for_missing_activations_say_what_to_do(model):
    recording = record(model, names=["hook_embed"])
    with pytest.raises(RecordingError, match=r"record again with capture=\['hook_unembed'\]"):
        recording.logits  # noqa: B018
    with pytest.raises(HookError, match="the most similar are"):
        recording["blocks.1.hook_resid_posst"]
    with pytest.raises(RecordingError, match="attention of layer 1 was not recorded"):
        recording.attention[1, 0]
    with pytest.raises(RecordingError, match="head 17 does not exist: layer 1 has heads 0 to 3"):
        recording.attention[1, 17]
    with pytest.raises(RecordingError, match="layer 9 does not exist: the model has layers 0 to 2"):
        recording.attention[9, 0]
    with pytest.raises(RecordingError, match="hook_router_logits was not recorded"):
        recording.routing.logits  # noqa: B018


def test_activations_are_float32_on_the_cpu_and_detached(model):
    half = Qwen3(CONFIG, dtype=torch.bfloat16)
    half.init_weights(torch.Generator().manual_seed(0), std=0.3)
    recording = record(half)
    for name in recording.capture:
        value = recording[name]
        assert not value.requires_grad
        assert value.device.type == "cpu"
        assert value.dtype in (torch.float32, torch.int64)
    assert recording.raw("hook_embed").dtype == torch.bfloat16


def test_activations_can_be_recorded_in_half_precision(tiny_lab):
    full, half = tiny_lab.record("3+4=?"), tiny_lab.record("3+4=?", dtype="bfloat16")
    for name in full.capture:
        floats = full.raw(name).is_floating_point()
        assert half.raw(name).dtype == (torch.bfloat16 if floats else full.raw(name).dtype)
        assert torch.equal(half.raw(name), full.raw(name).to(half.raw(name).dtype))
    assert torch.equal(half.routing.experts, full.routing.experts), (
        "experts are chosen before rounding"
    )
    with pytest.raises(ValueError, match="dtype 'half' is unknown: choose from float32"):
        tiny_lab.record("3+4=?", dtype="half")


def test_a_recording_keeps_no_memory_beyond_its_own_values(tiny_lab):
    for recording in tiny_lab.record_batch(["3+4=?", "3+4*2-1=?"]):
        for value in recording.activations.values():
            assert value.untyped_storage().nbytes() == value.nbytes


def test_pending_activations_are_delivered_once():
    """Later, the sender may be buffering for another recorder."""
    recorder, deliveries = Recorder(["x"]), []

    def deliver():
        deliveries.append(1)
        recorder.keep(["x"], torch.ones(1, 1, 3, 2))

    recorder.expect(deliver)
    assert recorder.n_complete == recorder.n_complete == 3
    (cut,) = recorder.cut([(0, 3)])
    assert torch.equal(cut["x"], torch.ones(3, 2)) and deliveries == [1]


def test_cut_splits_rows_and_empties_the_recorder():
    recorder = Recorder(["a", "b"])
    for name in ("a", "b"):
        recorder(name, torch.arange(6.0).view(2, 3, 1))
    first, second = recorder.cut([(0, 3), (1, 3)])
    assert first["a"].flatten().tolist() == [0, 1, 2]
    assert second["b"].flatten().tolist() == [4, 5]
    assert recorder.n_complete == 0


def test_the_default_capture_has_no_patterns_or_scores():
    assert not any("pattern" in name or "scores" in name for name in (*ATTENTION, *ROUTING))


@pytest.mark.parametrize(
    "changes",
    [
        {"spans": []},
        {"spans": {"answer": 3}},
        {"spans": {"answer": [2, 9]}},
        {"spans": {"answer": [-1, 2]}},
        {"spans": {"answer": [5, 2]}},
        {"spans": {"answer": [0, math.inf]}},
        {"config": []},
        {"config": None},
    ],
)
def test_a_recording_with_damaged_metadata_is_refused(model, tmp_path, changes):
    recording = record(model, names=["hook_embed"])
    tensors = {
        "token_ids": recording.token_ids,
        "hook_embed": recording.raw("hook_embed").contiguous(),
    }
    metadata = {"qwen3lab": json.dumps(recording._metadata() | changes)}
    save_file(tensors, tmp_path / "run", metadata=metadata)
    with pytest.raises(RecordingError, match=r"is a damaged recording \("):
        Recording.load(tmp_path / "run")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": 1e999}', '{"format": []}', "[]"])
def test_a_file_with_other_metadata_is_not_a_recording(tmp_path, text):
    save_file({"x": torch.zeros(2)}, tmp_path / "run", metadata={"qwen3lab": text})
    with pytest.raises(RecordingError, match="not a recording"):
        Recording.load(tmp_path / "run")


def test_a_failed_save_leaves_no_partial_file_and_keeps_the_old_one(model, tmp_path):
    recording = record(model)
    with pytest.raises(RecordingError, match=r"cannot be written .* see that its folder is there"):
        recording.save(tmp_path / "nowhere" / "run")
    (tmp_path / "run").write_text("old file")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # Emulates a full disk.
    try:
        with pytest.raises(RecordingError, match="cannot be written"):
            recording.save(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert (tmp_path / "run").read_text() == "old file"
