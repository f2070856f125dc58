"""LoRA adapters, compared with what peft merges."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import qwen3lab
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.errors import CheckpointError

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # Of peft, about transformers.
BASE = EMBEDDED / "tiny-dense"
EVERYWHERE = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
KINDS = {
    "plain": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]},
    "rank-stabilised": {"r": 4, "lora_alpha": 3, "use_rslora": True, "target_modules": EVERYWHERE},
    "dora": {"r": 3, "lora_alpha": 6, "use_dora": True, "target_modules": ["o_proj", "down_proj"]},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": EVERYWHERE,
        "rank_pattern": {"down_proj": 2},
        "alpha_pattern": {"down_proj": 5, "layers.1.self_attn.q_proj": 20},
    },
    "whole modules": {
        "r": 2,
        "lora_alpha": 2,
        "target_modules": ["q_proj"],
        "modules_to_save": ["norm"],
    },
}
IDS = [5, 60, 7, 812, 9]


def made(folder, **options):
    """Save an adapter with random weights; returns the merged model of `transformers`."""
    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32)
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "modules_to_save" in name or "magnitude" in name:
            parameter.data += 0.05 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model.merge_and_unload().eval()


@pytest.fixture(scope="module", params=KINDS)
def adapter(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    return folder, made(folder, **KINDS[request.param])


def test_weights_with_an_adapter_are_those_that_peft_merges(adapter):
    folder, merged = adapter
    lab = qwen3lab.load("tiny-dense", device="cpu", dtype="float32", adapter=folder)
    with torch.no_grad():
        expected = merged(torch.tensor([IDS])).logits[0]
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
        ({"target_parameters": ["experts.down_proj"]}, "target_parameters as"),
        ({"lora_alpha": "8"}, "lora_alpha as '8': expected a number"),
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
