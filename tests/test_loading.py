import json
import os
import shutil
import subprocess
import sys
import warnings
from fnmatch import fnmatch

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import qwen3lab
from qwen3lab.checkpoints.embedded import EMBEDDED, embedded_revisions
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.config.qwen3_config import Qwen3Config, Rope
from qwen3lab.device.dtypes import DTYPES
from qwen3lab.errors import CheckpointError, ConfigError, DtypeError, Qwen3LabError
from qwen3lab.loading import from_transformers, load_model, open_checkpoint
from qwen3lab.model.transformer import Qwen3
from tests.reference import CASES, gap, hf_random, small_config, tokens


def logits(model, ids=None):
    with torch.no_grad():
        return model(tokens() if ids is None else ids)


def hf_logits(hf):
    with torch.no_grad():
        return hf(tokens()).logits


def older_config(folder):
    """Rewrite config.json in the format of the April 2025 releases."""
    file = folder / "config.json"
    fields = json.loads(file.read_text())
    rope = fields.pop("rope_parameters")
    fields["rope_theta"] = rope.pop("rope_theta")
    fields["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    fields["torch_dtype"] = fields.pop("dtype", "float32")
    if "num_local_experts" in fields:
        fields["num_experts"] = fields.pop("num_local_experts")
    file.write_text(json.dumps(fields))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("generation", ["as written", "older"])
def test_a_saved_model_gives_the_logits_of_transformers(saved, tmp_path, name, generation):
    folder = tmp_path / "copy"
    folder.mkdir()
    for file in saved[name].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    if generation == "older":
        older_config(folder)
    assert gap(logits(load_model(folder)), hf_logits(hf_random(name))) < 1e-5


@pytest.mark.parametrize("name", ["dense, tied", "experts"])
def test_shards_give_the_same_weights_as_one_file(saved, tmp_path, name):
    hf_random(name).save_pretrained(tmp_path, max_shard_size="100KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    one, many = load_model(saved[name]), load_model(tmp_path)
    assert all(torch.equal(many.state_dict()[k], v) for k, v in one.state_dict().items())


def test_fused_expert_tensors_give_the_logits_of_transformers(saved, tmp_path):
    hf = hf_random("experts")
    fused = {name: value.contiguous() for name, value in hf.state_dict().items()}
    assert any("experts.gate_up_proj" in name for name in fused)
    save_file(fused, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((saved["experts"] / "config.json").read_bytes())
    assert any(
        "experts.0.gate_proj" in n for n in load_file(saved["experts"] / "model.safetensors")
    )
    assert gap(logits(load_model(tmp_path)), hf_logits(hf)) < 1e-5


@pytest.mark.parametrize("name", ["dense", "dense, tied", "experts"])
def test_a_transformers_model_in_memory_is_copied_not_shared(name):
    hf = hf_random(name)
    ours, expected = from_transformers(hf), hf_logits(hf)
    with torch.no_grad():
        for parameter in hf.parameters():
            parameter.zero_()
    assert gap(logits(ours), expected) < 1e-5


@pytest.mark.parametrize("name", ["dense, tied", "dense", "experts", "experts, one dense layer"])
def test_a_saved_checkpoint_opens_in_transformers(tmp_path, name):
    ours = from_transformers(hf_random(name))
    save_checkpoint(ours, tmp_path)
    hf = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert gap(logits(ours), hf_logits(hf)) < 1e-5
    again = load_model(tmp_path)
    assert all(torch.equal(again.state_dict()[k], v) for k, v in ours.state_dict().items())


def test_weights_are_saved_in_the_requested_dtype(tmp_path):
    save_checkpoint(from_transformers(hf_random("dense")), tmp_path, dtype="bfloat16")
    kinds = {value.dtype for value in load_file(tmp_path / "model.safetensors").values()}
    assert kinds == {torch.bfloat16}
    assert json.loads((tmp_path / "config.json").read_text())["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_load_in_the_requested_dtype(saved, dtype):
    kinds = {p.dtype for p in load_model(saved["experts"], dtype=dtype).parameters()}
    assert kinds == {DTYPES[dtype]}


def test_a_half_precision_checkpoint_computes_in_float32_on_a_cpu(tmp_path):
    save_checkpoint(from_transformers(hf_random("dense")), tmp_path, dtype="float16")
    assert open_checkpoint(tmp_path).model.dtype == torch.float32
    assert load_model(tmp_path).dtype == torch.float16


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("stated", [None, "float32", "bfloat16", "float16"])
def test_a_stated_dtype_is_used_as_in_transformers(saved, tmp_path, key, stated):
    folder = stating(saved, tmp_path, key, stated)
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").dtype
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of the other dtype.
        assert load_model(folder).dtype == theirs


@pytest.mark.parametrize("key", ["dtype", "torch_dtype"])
@pytest.mark.parametrize("stated", ["half", "int8", "nonsense", 16, True, {}])
def test_a_stated_dtype_that_is_not_known_is_refused_unless_one_is_given(
    saved, tmp_path, key, stated
):
    folder = stating(saved, tmp_path, key, stated)
    with pytest.raises(CheckpointError, match=r"config.json in .* gives dtype as .*: expected one"):
        load_model(folder)
    assert load_model(folder, dtype="float32").dtype == torch.float32


def stating(saved, tmp_path, key, stated):
    folder = tmp_path / "copy"
    shutil.copytree(saved["dense"], folder)
    fields = json.loads((folder / "config.json").read_text())
    del fields["dtype"]
    (folder / "config.json").write_text(json.dumps(fields | {key: stated}))
    return folder


def one_expert():
    model = Qwen3(small_config(n_experts=1, n_experts_per_token=1))
    model.init_weights(torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("options", [{}, {"dtype": "float32"}, {"memory": "1GB"}])
def test_a_mixture_of_one_expert_survives_saving_and_loading(tmp_path, options):
    ours = one_expert()
    save_checkpoint(ours, tmp_path)
    ids = tokens(vocab=50)
    assert torch.equal(logits(load_model(tmp_path, **options), ids), logits(ours, ids))


def test_saving_into_a_folder_with_a_sharded_checkpoint_is_refused(tmp_path):
    hf_random("dense").save_pretrained(tmp_path, max_shard_size="100KB")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(
        CheckpointError, match=r"index.json lists a checkpoint in shards, .* choose"
    ):
        save_checkpoint(from_transformers(hf_random("dense")), tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_saving_a_streamed_model_is_refused(saved, tmp_path):
    with pytest.raises(CheckpointError, match=r"blocks.0.* is not in memory .* without memory="):
        save_checkpoint(load_model(saved["dense"], memory="1GB"), tmp_path / "saved")
    assert not (tmp_path / "saved").exists()


# Damaged checkpoints: each test rewrites the file; the message must name the tensor.

Q = "model.layers.1.self_attn.q_proj.weight"
EXPERT = "model.layers.0.mlp.experts.5.up_proj.weight"


def changed(saved, tmp_path, name, change):
    tensors = load_file(saved[name] / "model.safetensors")
    change(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((saved[name] / "config.json").read_bytes())
    return tmp_path


@pytest.mark.parametrize(("name", "tensor"), [("dense", Q), ("experts", EXPERT)])
def test_a_missing_tensor_is_named(saved, tmp_path, name, tensor):
    folder = changed(saved, tmp_path, name, lambda tensors: tensors.pop(tensor))
    with pytest.raises(CheckpointError, match=f"{tensor} is missing from {folder}"):
        load_model(folder)


@pytest.mark.parametrize("options", [{"memory": "1GB"}, {"quantise": "int8"}])
def test_a_missing_embedding_is_named_by_loaders_that_read_its_dtype(saved, tmp_path, options):
    tensor = "model.embed_tokens.weight"
    folder = changed(saved, tmp_path, "dense", lambda tensors: tensors.pop(tensor))
    with pytest.raises(CheckpointError, match=f"{tensor} is missing from {folder}"):
        load_model(folder, **options)


def test_a_mixture_of_names_with_and_without_their_prefix_is_refused(saved, tmp_path):
    def shorten(tensors):
        tensors[EXPERT.removeprefix("model.")] = tensors.pop(EXPERT)

    folder = changed(saved, tmp_path, "experts", shorten)
    with pytest.raises(CheckpointError, match=f"{EXPERT} is missing from {folder}"):
        load_model(folder)


@pytest.mark.parametrize("options", [{}, {"memory": "1GB"}, {"quantise": "int8"}])
def test_more_layers_than_tensors_are_refused_before_a_model_is_built(
    saved, tmp_path, monkeypatch, options
):
    folder = tmp_path / "deep"
    shutil.copytree(saved["dense"], folder)
    fields = json.loads((folder / "config.json").read_text())
    del fields["layer_types"]
    (folder / "config.json").write_text(json.dumps(fields | {"num_hidden_layers": 4096}))
    monkeypatch.setattr(Qwen3, "__init__", lambda *_, **__: pytest.fail("a model was built"))
    with pytest.raises(CheckpointError, match=r"layers.4095.input_layernorm.weight is missing"):
        load_model(folder, **options)


def test_a_surplus_tensor_is_named(saved, tmp_path):
    extra = {"model.layers.1.self_attn.q_proj.bias": torch.zeros(64)}
    folder = changed(saved, tmp_path, "dense", lambda tensors: tensors.update(extra))
    with pytest.raises(CheckpointError, match=r"holds model.layers.1.self_attn.q_proj.bias"):
        load_model(folder)


@pytest.mark.parametrize(("name", "tensor"), [("dense", Q), ("experts", EXPERT)])
def test_a_tensor_of_another_shape_is_named_with_both_shapes(saved, tmp_path, name, tensor):
    def cut(tensors):
        tensors[tensor] = tensors[tensor][:-1].contiguous()

    rows, columns = load_file(saved[name] / "model.safetensors")[tensor].shape
    folder = changed(saved, tmp_path, name, cut)
    found = rf"{tensor} in .* has shape \({rows - 1}, {columns}\): .* \({rows}, {columns}\)"
    with pytest.raises(CheckpointError, match=found):
        load_model(folder)


def test_a_checkpoint_with_tied_embeddings_may_also_store_lm_head(saved, tmp_path):
    def store(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()

    folder = changed(saved, tmp_path, "dense, tied", store)
    assert gap(logits(load_model(folder)), hf_logits(hf_random("dense, tied"))) < 1e-5


@pytest.mark.parametrize(
    ("entry", "method"),
    [
        ({"quant_method": "quanto"}, "quanto"),
        ("fp8", "an unknown method"),
        *[(value, "an unknown method") for value in ({"a": 1}, {}, 0, False)],
    ],
)
def test_quantised_weights_are_refused_and_their_method_is_named(saved, tmp_path, entry, method):
    folder = changed(saved, tmp_path, "dense", lambda tensors: None)
    fields = json.loads((folder / "config.json").read_text())
    fields["quantization_config"] = entry
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match=f"quantised with {method}"):
        load_model(folder)


def hf_opened(folder):
    """Logits of the folder as `transformers` opens it."""
    return hf_logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval())


@pytest.mark.parametrize("name", ["dense, tied", "experts, tied"])
def test_an_unembedding_of_its_own_is_kept_where_the_config_says_tied(saved, tmp_path, name):
    def store(tensors):
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].flip(0).contiguous()

    folder = changed(saved, tmp_path, name, store)
    for options in ({}, {"memory": "1GB"}):
        with pytest.warns(UserWarning, match=r"ties the embeddings, but .* holds lm_head.weight"):
            model = load_model(folder, **options)
        assert not model.config.tied_embeddings
        assert gap(logits(model), hf_opened(folder)) < 1e-5


def test_a_tied_checkpoint_may_store_lm_head_only(saved, tmp_path):
    def rename(tensors):
        tensors["lm_head.weight"] = tensors.pop("model.embed_tokens.weight")

    folder = changed(saved, tmp_path, "dense, tied", rename)
    for options in ({}, {"memory": "1GB"}):
        assert gap(logits(load_model(folder, **options)), hf_opened(folder)) < 1e-5


def test_a_model_in_memory_that_was_untied_keeps_its_unembedding():
    hf = hf_random("dense, tied")
    hf.lm_head.weight = torch.nn.Parameter(hf.lm_head.weight.detach().flip(0).clone())
    with pytest.warns(UserWarning, match="the model in memory holds lm_head.weight"):
        assert gap(logits(from_transformers(hf)), hf_logits(hf)) < 1e-5


@pytest.mark.parametrize("name", ["dense, tied", "experts, tied"])
def test_names_without_the_prefix_model_give_the_logits_of_transformers(saved, tmp_path, name):
    def strip(tensors):
        for stored in list(tensors):
            tensors[stored.removeprefix("model.")] = tensors.pop(stored)

    folder = changed(saved, tmp_path, name, strip)
    for options in ({}, {"memory": "1GB"}):
        assert gap(logits(load_model(folder, **options)), hf_opened(folder)) < 1e-5


def test_a_model_without_unembedding_is_refused_as_one_that_writes_no_text(saved, tmp_path):
    folder = changed(saved, tmp_path, "dense", lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(CheckpointError, match=r"lm_head.weight is missing .* has no logits") as e:
        load_model(folder)
    assert "again" not in str(e.value)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda name: f"_orig_mod.{name}" if "layers.0" in name else name,
        lambda name: f"module.{name}" if "layers.0" in name else f"_orig_mod.{name}",
        lambda name: f"base_model.model.{name}" if "self_attn" in name else name,
        "student.{}".format,
    ],
)
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_the_prefix_of_a_wrapper_is_named_where_only_some_names_have_it(
    saved, tmp_path, wrap, dtype
):
    def rename(tensors):
        for stored in list(tensors):
            tensors[wrap(stored)] = tensors.pop(stored)

    folder = changed(saved, tmp_path, "dense", rename)
    with pytest.raises(CheckpointError, match=r"holds it as .* the names have '.*' of a wr"):
        load_model(folder, dtype=dtype)


def test_an_adapter_that_is_not_merged_is_refused(saved, tmp_path):
    lora = {"model.layers.0.self_attn.q_proj.lora_A.default.weight": torch.zeros(4, 48)}
    folder = changed(saved, tmp_path, "dense", lambda tensors: tensors.update(lora))
    with pytest.raises(CheckpointError, match=r"an adapter such as LoRA that is not merged"):
        load_model(folder)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"adapter_config.json describes an adapter"):
        load_model(folder)


@pytest.mark.parametrize("name", ["dense", "experts"])
@pytest.mark.parametrize("stated", ["bfloat16", None])
def test_tensors_in_another_dtype_are_converted_as_in_transformers(saved, tmp_path, name, stated):
    def mix(tensors):
        for stored, value in tensors.items():
            wide = "norm" in stored or stored.endswith("mlp.gate.weight")
            tensors[stored] = value if wide else value.bfloat16()

    folder = changed(saved, tmp_path, name, mix)
    fields = json.loads((folder / "config.json").read_text()) | {"dtype": stated}
    (folder / "config.json").write_text(json.dumps({k: v for k, v in fields.items() if v}))
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype="auto" if stated else torch.bfloat16)
    expected = from_transformers(hf).state_dict()
    converted = r"are not stored as bfloat16, such as .* \(float32\)"
    with pytest.warns(UserWarning, match=converted):
        model = load_model(folder)
    assert all(torch.equal(value, expected[n]) for n, value in model.state_dict().items())
    with pytest.warns(UserWarning, match=converted):
        streamed = load_model(folder, memory="1GB")
    assert gap(logits(streamed).float(), logits(model).float()) < 0.02
    assert open_checkpoint(folder).model.dtype == torch.float32  # Without a warning.


def test_the_dtype_of_the_config_is_taken_as_in_transformers(saved, tmp_path):
    folder = changed(saved, tmp_path, "dense", lambda tensors: None)
    fields = json.loads((folder / "config.json").read_text()) | {"dtype": "bfloat16"}
    (folder / "config.json").write_text(json.dumps(fields))
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    with pytest.warns(UserWarning, match=r"of .* are not stored as bfloat16"):
        assert load_model(folder).dtype == hf.dtype == torch.bfloat16


def test_a_model_in_memory_with_quantised_or_absent_weights_is_refused():
    hf = hf_random("dense")
    weight = hf.model.layers[0].mlp.up_proj.weight
    weight.requires_grad_(False).data = weight.data.to(torch.int8)
    with pytest.raises(CheckpointError, match=r"up_proj.weight in .* is quantised \(torch.int8\)"):
        from_transformers(hf)
    with pytest.raises(CheckpointError, match=r"is on the meta device"):
        from_transformers(hf_random("dense").to("meta"))


def both(saved, folder, single, sharded):
    """A folder with one model as a single file, and another one in shards with an index."""
    saved_shards = hf_random(sharded)
    saved_shards.save_pretrained(folder, max_shard_size="100KB")
    (folder / "model.safetensors").write_bytes((single / "model.safetensors").read_bytes())
    return folder


@pytest.mark.parametrize("shards", ["complete", "missing", "damaged index"])
def test_a_single_file_is_read_before_an_index_as_in_transformers(saved, tmp_path, shards):
    def scale(tensors):
        tensors["model.norm.weight"] = tensors["model.norm.weight"] * 2

    single = tmp_path / "single"
    single.mkdir()
    folder = both(saved, tmp_path / "both", changed(saved, single, "dense", scale), "dense")
    if shards == "missing":
        for file in folder.glob("model-*.safetensors"):
            file.unlink()
    if shards == "damaged index":
        (folder / "model.safetensors.index.json").write_text("{")
    with pytest.warns(UserWarning, match=r"holds model.safetensors, which is read.*index.json bes"):
        model = load_model(folder)
    assert gap(logits(model), hf_opened(single)) < 1e-5
    if shards != "damaged index":
        assert gap(logits(model), hf_opened(folder)) < 1e-5


def test_an_index_that_lists_the_single_file_is_no_other_model(saved, tmp_path):
    folder = changed(saved, tmp_path, "dense", lambda tensors: None)
    names = load_file(folder / "model.safetensors")
    index = {"weight_map": dict.fromkeys(names, "model.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    load_model(folder)


@pytest.mark.parametrize(
    "options", [{}, {"dtype": "bfloat16"}, {"memory": "1GB"}, {"quantise": "int8"}]
)
@pytest.mark.parametrize(
    ("name", "tensor"), [("dense", Q), ("experts", EXPERT), ("dense", "model.norm.weight")]
)
@pytest.mark.parametrize(
    ("value", "kind"), [(float("nan"), "NaN"), (float("inf"), "inf"), (-float("inf"), "inf")]
)
def test_a_weight_that_is_not_finite_is_named(saved, tmp_path, name, tensor, value, kind, options):
    def damage(tensors):
        tensors[tensor].view(-1)[-1] = value

    folder = changed(saved, tmp_path, name, damage)
    with pytest.raises(CheckpointError, match=rf"{tensor} in .*not finite \({kind}"):
        logits(load_model(folder, **options))


def test_a_weight_in_memory_that_is_not_finite_is_named():
    hf = hf_random("dense")
    hf.lm_head.weight.data[3, 5] = float("nan")
    with pytest.raises(CheckpointError, match=r"lm_head.weight in the model in memory has values"):
        from_transformers(hf)


def test_weights_beyond_the_range_of_the_asked_dtype_are_named(saved, tmp_path):
    def enlarge(tensors):
        tensors[Q] = tensors[Q] * 1e6

    folder = changed(saved, tmp_path, "dense", enlarge)
    with pytest.warns(UserWarning, match=rf"{Q} in .* beyond the range of float16"):
        load_model(folder, dtype="float16")
    load_model(folder, dtype="bfloat16")


@pytest.mark.parametrize("change", ["cut short", "overwritten"])
def test_a_file_that_changes_after_loading_changes_no_number(saved, tmp_path, change):
    folder = changed(saved, tmp_path, "dense", lambda tensors: None)
    model = load_model(folder)
    before, file = logits(model), folder / "model.safetensors"
    size = file.stat().st_size
    if change == "cut short":
        os.truncate(file, size // 2)
    else:
        with file.open("r+b") as stream:
            stream.seek(size // 2)
            stream.write(bytes(size - size // 2))
    assert torch.equal(logits(model), before)


def test_a_folder_of_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(ConfigError, match="model_type is 'llama'"):
        load_model(tmp_path)


def test_an_unknown_dtype_is_refused_with_the_known_ones(saved):
    with pytest.raises(DtypeError, match="float32, bfloat16, float16"):
        load_model(saved["dense"], dtype="int7")


def test_a_revision_of_a_local_folder_is_refused(saved):
    with pytest.raises(CheckpointError, match="is a local folder and has no revision 'step500'"):
        open_checkpoint(saved["dense"], revision="step500")


def test_a_revision_names_the_embedded_model_even_if_a_folder_has_its_name(
    saved, tmp_path, monkeypatch
):
    (tmp_path / "tiny-dense").mkdir()
    monkeypatch.chdir(tmp_path)
    revision = embedded_revisions("tiny-dense")[0]
    assert find_folder("tiny-dense", revision=revision) == EMBEDDED / "tiny-dense" / revision
    with pytest.raises(CheckpointError, match="tiny-dense has no revision 'main': choose from"):
        find_folder("tiny-dense", revision="main")
    assert find_folder("tiny-dense").resolve() == tmp_path / "tiny-dense"


@pytest.mark.parametrize("name", ["./nowhere", "nowhere", "/no/where", "a/b/c", "~/nowhere"])
def test_an_unknown_name_is_refused_with_the_kinds_of_names(name):
    with pytest.raises(CheckpointError, match="neither a folder nor an embedded model"):
        open_checkpoint(name)


def test_a_hub_id_without_a_network_or_cache_says_what_to_do(tmp_path):
    # huggingface_hub reads the offline mode at import, so the test starts another process.
    code = "from qwen3lab.checkpoint import find_folder; find_folder('Qwen/Qwen3-0.6B')"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
    )
    last = ran.stderr.strip().splitlines()[-1]
    assert "Qwen/Qwen3-0.6B is not in the local cache" in last
    assert "give the path of a folder" in last


def test_a_hub_id_in_the_cache_opens_offline(saved, tmp_path):
    # The hub's own layout: models--owner--name/{refs,snapshots}.
    root = tmp_path / "hub" / "models--Qwen--Tiny"
    snapshot = root / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(snapshot.name)
    for file in saved["dense"].iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    code = "from qwen3lab.loading import open_checkpoint as o; print(o('Qwen/Tiny').name)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout.strip() == "Qwen/Tiny", ran.stderr


def hub(monkeypatch, repository, downloads):
    """A hub that holds one repository; notes the files of each download."""

    def snapshot_download(hub_id, *, revision, allow_patterns):
        local = repository.parent / "local"
        local.mkdir(exist_ok=True)
        for file in repository.iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                downloads.append(file.name)
                (local / file.name).write_bytes(file.read_bytes())
        return str(local)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("config.json", '{"model_type": "llama"}', "model_type is 'llama'"),
        ("adapter_config.json", "{}", "describes an adapter"),
        ("tokenizer.json", "{", "no tokenizer"),
        ("generation_config.json", "{", "is not readable JSON"),
        ("generation_config.json", '{"top_p": 2}', "top_p is 2"),
    ],
)
def test_a_model_of_the_hub_is_refused_before_its_weights_are_fetched(
    monkeypatch, tmp_path, file, text, sentence
):
    repository, downloads = tmp_path / "hub", []
    shutil.copytree(EMBEDDED / "tiny-dense", repository)
    (repository / file).write_text(text)
    hub(monkeypatch, repository, downloads)
    with pytest.raises(Qwen3LabError, match=sentence):
        qwen3lab.load("Some/Model", device="cpu")
    assert "config.json" in downloads
    assert not [name for name in downloads if name.endswith(".safetensors")]


@pytest.mark.parametrize(
    "options",
    [
        {"quantise": "int7"},
        {"memory": "much"},
        {"memory": "1GB", "quantise": "int8"},
        {"dtype": "int7"},
        {"device": "int7"},
    ],
)
def test_options_are_checked_before_weights_are_fetched(monkeypatch, tmp_path, options):
    repository, downloads = tmp_path / "hub", []
    shutil.copytree(EMBEDDED / "tiny-dense", repository)
    hub(monkeypatch, repository, downloads)
    with pytest.raises(Qwen3LabError, match=r"int7|'much'|cannot be combined"):
        qwen3lab.load("Some/Model", **({"device": "cpu"} | options))
    assert not [name for name in downloads if name.endswith(".safetensors")]


def test_a_chat_template_and_generation_settings_are_fetched_with_the_weights(
    monkeypatch, tmp_path
):
    repository, downloads = tmp_path / "hub", []
    shutil.copytree(EMBEDDED / "tiny-dense", repository)
    (repository / "generation_config.json").write_text("{}")
    template = json.loads((repository / "tokenizer_config.json").read_text())
    text = template.pop("chat_template", None) or "{{ messages[0].content }}"
    (repository / "chat_template.jinja").write_text(text)
    hub(monkeypatch, repository, downloads)
    lab = qwen3lab.load("Some/Model", device="cpu")
    assert lab.tokenizer.chat_template == text
    assert downloads.index("model.safetensors") > downloads.index("chat_template.jinja")
    assert "generation_config.json" in downloads


PEAK = """
import resource, sys, torch
from qwen3lab.loading import load_model
start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = load_model(sys.argv[1], dtype=sys.argv[2])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
weights = sum(p.numel() * p.element_size() for p in model.parameters())
print((peak - start) * 1024 / weights)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts memory as Linux does")
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_loading_takes_about_one_copy_of_the_weights(tmp_path, stored):
    # 200 MB in float32, so that the interpreter's own memory is small in comparison.
    config = Qwen3Config(
        d_model=512,
        n_layers=8,
        n_heads=8,
        n_kv_heads=4,
        d_head=64,
        d_mlp=512,
        d_vocab=4000,
        rope=Rope(theta=1e4),
        n_experts=8,
        n_experts_per_token=2,
        d_expert=384,
        moe_layers=tuple(range(8)),
    )
    model = Qwen3(config)
    model.init_weights(torch.Generator().manual_seed(0))
    save_checkpoint(model, tmp_path, dtype=stored)
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, str(tmp_path), "float32"],
        capture_output=True,
        text=True,
        check=True,
    )
    # Pages of the mapped file also count while they are read.
    in_file = {"float32": 1.0, "bfloat16": 0.5}[stored]
    assert float(ran.stdout) < 1.1 + in_file
