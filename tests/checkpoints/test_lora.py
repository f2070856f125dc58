"""LoRA adapters, compared with what peft merges."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import qwen3lab
from qwen3lab.checkpoints import save_checkpoint
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.errors import CheckpointError
from tests.adapters.made import FUSED, FUSED_KINDS, IDS, KINDS, logits_of, saved

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # Of peft, about transformers.
    # Of peft, which converts names of transformers 4 to patterns that match nothing.
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning"),
]
BASE = EMBEDDED / "tiny-dense"


def made(folder, base="tiny-dense", **options):
    """Save an adapter with random weights; returns the merged model of `transformers`."""
    return saved(folder, base, **options).merge_and_unload().eval()


@pytest.fixture(scope="module", params=KINDS)
def adapter(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    return folder, made(folder, **KINDS[request.param])


def test_weights_with_an_adapter_are_those_that_peft_merges(adapter):
    folder, merged = adapter
    lab = qwen3lab.load("tiny-dense", device="cpu", dtype="float32", adapter=folder)
    expected = logits_of(merged)
    torch.testing.assert_close(lab.record(IDS).logits, expected, atol=1e-4, rtol=1e-4)
    weights = merged.state_dict()
    for layer in range(lab.config.n_layers):
        for ours, theirs in (("attn.q", "self_attn.q_proj"), ("mlp.down", "mlp.down_proj")):
            found = lab.model.get_parameter(f"blocks.{layer}.{ours}.weight").detach()
            key = f"model.layers.{layer}.{theirs}.weight"
            torch.testing.assert_close(found, weights[key], atol=1e-6, rtol=1e-6)
    plain = qwen3lab.load("tiny-dense", device="cpu", dtype="float32").record(IDS).logits
    assert float((plain - expected).abs().max()) > 0.01
    assert lab.name == f"tiny-dense + {folder}"


def test_an_adapters_own_name_opens_its_base_model_with_it(adapter):
    folder, _ = adapter
    whole = qwen3lab.load("tiny-dense", device="cpu", adapter=folder)
    named = qwen3lab.load(folder, device="cpu")  # Its config has the base model's folder.
    assert torch.equal(whole.record(IDS).logits, named.record(IDS).logits)
    streamed = qwen3lab.load("tiny-dense", device="cpu", adapter=folder, memory="60MB")
    assert torch.equal(whole.record(IDS).logits, streamed.record(IDS).logits)


@pytest.fixture
def plain(tmp_path):
    made(tmp_path / "plain", **KINDS["plain"])
    return tmp_path / "plain"


def rewrite(folder, **fields):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"peft_type": "IA3"}, "peft_type as 'IA3'.*merge_and_unload"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights as 'pissa'"),
        ({"bias": "all"}, "bias as 'all'"),
        ({"target_parameters": ["experts.w13"]}, "target_parameters as"),
        ({"target_parameters": ["experts.down_proj"]}, "holds no adapter of fused experts"),
        ({"lora_alpha": "8"}, "lora_alpha as '8': expected a number"),
        ({"lora_alpha": 10**400}, "lora_alpha as 1000"),
        ({"alpha_pattern": {"(a+)+": 2}}, "expected the end of a module's name"),
    ],
)
def test_settings_that_change_what_is_computed_are_refused(plain, fields, message):
    rewrite(plain, **fields)
    with pytest.raises(CheckpointError, match=message):
        qwen3lab.load("tiny-dense", device="cpu", adapter=plain)


PREFIX = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"{PREFIX}.lora_A.weight"), "lacks lora_A.weight of"),
        (lambda t: t.update({f"{PREFIX}.lora_B.weight": torch.zeros(7, 4)}), "another base model"),
        (lambda t: t.update({"base_model.model.x.weight": torch.zeros(1)}), "changes x.weight"),
        (lambda t: t.update({f"{PREFIX}.lora_embedding_A": torch.zeros(1)}), "is not read"),
        (lambda t: t[f"{PREFIX}.lora_A.weight"].fill_(torch.inf), "not finite"),
        (lambda t: t.clear(), "holds no tensors"),
    ],
)
def test_weights_that_do_not_fit_are_refused(plain, change, message):
    path = plain / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=message):
        qwen3lab.load("tiny-dense", device="cpu", adapter=plain)


def test_an_adapter_without_a_base_model_says_how_to_load_it(plain):
    rewrite(plain, base_model_name_or_path=None)
    with pytest.raises(CheckpointError, match="does not name its base model"):
        qwen3lab.load(plain, device="cpu")
    with pytest.raises(CheckpointError, match="is an adapter itself"):
        qwen3lab.load(plain, device="cpu", adapter=plain)
    (plain / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no adapter_model\.safetensors"):
        qwen3lab.load("tiny-dense", device="cpu", adapter=plain)


def test_an_adapter_beside_a_models_config_is_refused(plain, tmp_path):
    folder = tmp_path / "both"
    shutil.copytree(BASE, folder)
    shutil.copyfile(plain / "adapter_config.json", folder / "adapter_config.json")
    with pytest.raises(CheckpointError, match="move the adapter's files to a folder"):
        qwen3lab.load(folder, device="cpu")


def test_several_adapters_with_strengths_are_those_that_peft_merges_in_turn(plain, tmp_path):
    import peft

    other = tmp_path / "other"
    made(other, seed=1, **KINDS["patterns"])
    model = peft.PeftModel.from_pretrained(
        saved(tmp_path / "base", **KINDS["plain"]).unload(), plain
    )
    model.load_adapter(other, "other")
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.LoraLayer):
            module.set_scale("other", 0.25)
    model.merge_adapter(["default", "other"])
    found = qwen3lab.load(
        "tiny-dense", device="cpu", dtype="float32", adapter={plain: 1, other: 0.25}
    )
    for layer in range(found.config.n_layers):
        module = model.base_model.model.model.layers[layer].self_attn.q_proj
        expected = module.base_layer.weight
        ours = found.model.get_parameter(f"blocks.{layer}.attn.q.weight")
        torch.testing.assert_close(ours.detach(), expected.detach(), atol=0, rtol=0)
    torch.testing.assert_close(found.record(IDS).logits, logits_of(model), atol=1e-4, rtol=1e-4)
    assert "rank 4, alpha 8, on" in found.stored_as
    assert "0.25 x" in found.stored_as and "alpha 5 to 20" in found.stored_as


def test_a_strength_of_a_dora_adapter_is_a_share_of_its_whole_difference(tmp_path):
    merged = made(tmp_path, **KINDS["dora"]).state_dict()["model.layers.1.mlp.down_proj.weight"]
    options = {"device": "cpu", "dtype": "float32"}
    base = qwen3lab.load("tiny-dense", **options).model.get_parameter("blocks.1.mlp.down.weight")
    lab = qwen3lab.load("tiny-dense", adapter={tmp_path: 0.5}, **options)
    found = lab.model.get_parameter("blocks.1.mlp.down.weight")
    torch.testing.assert_close(found.detach(), (base.detach() + merged) / 2, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", FUSED_KINDS)
def test_adapters_of_fused_experts_are_those_that_peft_merges(kind, tmp_path):
    merged = made(tmp_path, "tiny-moe", r=2, lora_alpha=6, **FUSED_KINDS[kind])
    options = {"device": "cpu", "dtype": "float32", "adapter": tmp_path}
    lab, weights = qwen3lab.load("tiny-moe", **options), merged.state_dict()
    for ours, theirs in (
        ("gate_up", "experts.gate_up_proj"),
        ("down", "experts.down_proj"),
        ("router.weight", "gate.weight"),
    ):
        found = lab.model.get_parameter(f"blocks.1.mlp.{ours}").detach()
        expected = weights[f"model.layers.1.mlp.{theirs}"]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    streamed = qwen3lab.load("tiny-moe", memory="45MB", **options)
    expected = lab.record(IDS).logits
    torch.testing.assert_close(streamed.record(IDS).logits, expected, atol=1e-4, rtol=1e-4)


def test_fused_experts_of_a_checkpoint_are_changed_in_whole_and_one_by_one(tmp_path):
    merged = made(tmp_path / "a", "tiny-moe", r=2, lora_alpha=6, **FUSED_KINDS["both"])
    folder = tmp_path / "fused"
    shutil.copytree(EMBEDDED / "tiny-moe", folder, ignore=shutil.ignore_patterns("step*"))
    lab = qwen3lab.load("tiny-moe", device="cpu", dtype="float32")
    save_checkpoint(lab.model, folder)
    path = folder / "model.safetensors"
    tensors = {n: v for n, v in load_file(path).items() if ".experts." not in n}
    for layer in range(lab.config.n_layers):
        experts = lab.model.blocks[layer].mlp
        prefix = f"model.layers.{layer}.mlp.experts"
        tensors[f"{prefix}.gate_up_proj"] = experts.gate_up.detach().clone()
        tensors[f"{prefix}.down_proj"] = experts.down.detach().clone()
    save_file(tensors, path)
    options = {"device": "cpu", "dtype": "float32", "adapter": tmp_path / "a"}
    found = qwen3lab.load(folder, **options)
    expected = merged.state_dict()["model.layers.2.mlp.experts.gate_up_proj"]
    ours = found.model.get_parameter("blocks.2.mlp.gate_up").detach()
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)
    streamed = qwen3lab.load(folder, memory="45MB", **options)
    expected = found.record(IDS).logits
    torch.testing.assert_close(streamed.record(IDS).logits, expected, atol=1e-4, rtol=1e-4)


def test_fused_experts_of_a_peft_that_took_rows_for_columns_are_refused(tmp_path):
    made(tmp_path, "tiny-moe", r=2, target_modules=[], target_parameters=FUSED)
    rewrite(tmp_path, peft_version="0.18.0")  # Where gate and up are as many rows as columns.
    with pytest.raises(CheckpointError, match=r"before 0\.19\.1, which exchanged its rows"):
        qwen3lab.load("tiny-moe", device="cpu", adapter=tmp_path)
    rewrite(tmp_path, target_parameters=FUSED[1:])
    with pytest.raises(CheckpointError, match="holds 2 adapters of the fused experts"):
        qwen3lab.load("tiny-moe", device="cpu", adapter=tmp_path)


def test_adapters_that_do_not_add_up_are_refused(plain, tmp_path):
    made(tmp_path / "dora", r=2, use_dora=True, target_modules=["q_proj"])
    for several, message in (
        ([plain, plain], "is given twice"),
        ([plain, tmp_path / "dora"], "both change .*by DoRA or as a whole"),
    ):
        with pytest.raises(CheckpointError, match=message):
            qwen3lab.load("tiny-dense", device="cpu", adapter=several)
    with pytest.raises(ValueError, match="expected a finite number"):
        qwen3lab.load("tiny-dense", device="cpu", adapter={plain: float("inf")})
