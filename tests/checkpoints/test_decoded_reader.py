"""Whole models in the formats of other libraries, in memory, streamed and quantised again."""

import json
import re
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import qwen3lab
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.checkpoints.formats.fp8 import Fp8
from qwen3lab.errors import CheckpointError
from qwen3lab.loading import load_model
from tests.checkpoints.formats.writers import WRITERS, mlx, quantised

SINGLE = "model.safetensors"
IDS = [5, 60, 7, 812, 9, 33]
METHODS = tuple(WRITERS)


@pytest.fixture(scope="module", params=["tiny-dense", "tiny-moe"])
def folders(request, tmp_path_factory):
    """Folders of a model in each format, and of what it stands for."""
    parent = tmp_path_factory.mktemp(request.param)
    source = parent / "source"
    source.mkdir()
    for path in (EMBEDDED / request.param).iterdir():
        if path.suffix == ".json" or path.name == "model.safetensors":
            shutil.copyfile(path, source / path.name)
    return {
        method: (parent / method, quantised(source, parent / method, method)) for method in METHODS
    }


def loaded(folder, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*was decoded from FP8")
        return qwen3lab.load(folder, device="cpu", **options)


@pytest.mark.parametrize("method", METHODS)
def test_logits_are_those_of_transformers_on_the_decoded_weights(folders, method):
    packed, decoded = folders[method]
    theirs = AutoModelForCausalLM.from_pretrained(decoded, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    lab = loaded(packed, dtype="float32")
    assert float((lab.record(IDS).logits - expected).abs().max()) < 1e-4
    weights = theirs.state_dict()
    key = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(lab.model.blocks[0].attn.q.weight.detach(), weights[key])


@pytest.mark.parametrize("method", METHODS)
def test_streamed_weights_are_the_same_to_the_bit(folders, method):
    packed, _ = folders[method]
    whole, streamed = loaded(packed), loaded(packed, memory="80MB")
    assert streamed.model.blocks.is_streamed
    assert torch.equal(whole.record(IDS).logits, streamed.record(IDS).logits)


def test_decoded_weights_can_be_quantised_again(folders):
    packed, decoded = folders["gptq"]
    pytest.importorskip("torchao")
    ours, plain = loaded(packed, quantise="int8"), loaded(decoded, quantise="int8")
    assert torch.equal(ours.record(IDS).logits, plain.record(IDS).logits)


def test_the_lab_says_what_was_decoded(folders):
    assert "decoded from GPTQ, 4 bits in groups of 16" in repr(loaded(folders["gptq"][0]))
    assert loaded(folders["gptq"][1]).stored_as == ""
    with pytest.warns(UserWarning, match="also round activations to FP8"):
        lab = qwen3lab.load(folders["fp8"][0], device="cpu")
    assert "decoded from FP8, blocks of 32 x 24" in repr(lab)


def test_fp8_is_decoded_as_transformers_decodes_it(folders, tmp_path):
    from transformers import FineGrainedFP8Config

    # Its decoder needs blocks that divide the matrix.
    source, target = folders["fp8"][1], tmp_path / "fp8"
    quantised_by = {"dequantize": True, "weight_block_size": (32, 32)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.checkpoints.formats.writers.BLOCK", (32, 32))
        quantised(source, target, "fp8")
    fields = json.loads((target / "config.json").read_text())
    fields["quantization_config"]["weight_block_size"] = [32, 32]
    (target / "config.json").write_text(json.dumps(fields))
    theirs = AutoModelForCausalLM.from_pretrained(
        target, quantization_config=FineGrainedFP8Config(**quantised_by), dtype=torch.float32
    )
    expected = theirs.state_dict()["model.layers.1.self_attn.o_proj.weight"]
    found = loaded(target, dtype="float32").model.blocks[1].attn.o.weight.detach()
    assert torch.equal(found, expected)


def changed(folder, target, change):
    """A copy of a folder whose tensors a function has changed."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    change(tensors)
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    return target


KEY = "model.layers.0.self_attn.k_proj"


@pytest.mark.parametrize(
    ("method", "change", "message"),
    [
        ("gptq", lambda t: t.pop(f"{KEY}.scales"), f"{KEY}.scales is missing"),
        ("fp8", lambda t: t.pop(f"{KEY}.weight_scale_inv"), "weight_scale_inv is missing"),
        ("awq", lambda t: t[f"{KEY}.scales"].fill_(torch.nan), "not finite"),
        ("gptq", lambda t: t.update({f"{KEY}.bias": torch.zeros(64)}), f"holds {KEY}.bias"),
        ("fp8", lambda t: t.pop(f"{KEY}.weight"), f"{KEY}.weight is missing"),
    ],
)
def test_damaged_checkpoints_are_refused_with_the_tensor_that_is_wrong(
    folders, tmp_path, method, change, message
):
    with pytest.raises(CheckpointError, match=message):
        load_model(changed(folders[method][0], tmp_path / "changed", change), dtype="float32")


def test_a_config_without_packed_tensors_is_refused(folders, tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(folders["gptq"][1], folder)
    fields = json.loads((folder / "config.json").read_text())
    fields["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 16}
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="quant_method gptq, but no tensor is stored so"):
        load_model(folder)


def test_a_saved_copy_of_decoded_weights_is_an_unquantised_checkpoint(folders, tmp_path):
    from qwen3lab.checkpoints.writer import save_checkpoint

    lab = loaded(folders["awq"][0], dtype="float32")
    save_checkpoint(lab.model, tmp_path / "copy")
    assert "quantization_config" not in json.loads((tmp_path / "copy" / "config.json").read_text())
    again = load_model(tmp_path / "copy")
    for one, other in zip(again.parameters(), lab.model.parameters(), strict=True):
        assert torch.equal(one, other)


def as_mlx_lm_stores(folder, target):
    """A checkpoint as mlx-lm converts it, and what it stands for: experts and embedding, too."""
    for copy in (target, plain := target.with_name("plain")):
        shutil.copytree(folder, copy)
    decoded = {name: value.float() for name, value in load_file(folder / SINGLE).items()}
    stacks, packed = {}, {}
    for name in sorted(decoded):
        if (match := re.fullmatch(r"(.+)\.mlp\.experts\.(\d+)\.(\w+)\.weight", name)) is None:
            continue
        stacks.setdefault(f"{match[1]}.mlp.switch_mlp.{match[3]}", {})[int(match[2])] = name
    whole = [n for n, v in decoded.items() if v.ndim == 2 and ".experts." not in n]
    for name in whole:
        parts, decoded[name] = mlx(decoded[name])
        packed |= {f"{name.removesuffix('weight')}{part}": each for part, each in parts.items()}
    for module, names in stacks.items():
        parts, values = mlx(torch.stack([decoded[names[e]] for e in range(len(names))]))
        packed |= {f"{module}.{part}": each for part, each in parts.items()}
        decoded |= {names[e]: value.contiguous() for e, value in enumerate(values)}
    packed |= {name: value for name, value in decoded.items() if value.ndim == 1}
    save_file(packed, target / SINGLE, {"format": "mlx"})
    save_file(decoded, plain / SINGLE, {"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    config["quantization"] = {"bits": 4, "group_size": 32}
    (target / "config.json").write_text(json.dumps(config))
    return plain


@pytest.mark.parametrize("name", ["tiny-dense", "tiny-moe"])
def test_mlx_stacks_and_embeddings_are_read_whole_and_by_expert(name, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(EMBEDDED / name, source, ignore=shutil.ignore_patterns("step*"))
    packed = tmp_path / "packed"
    plain = as_mlx_lm_stores(source, packed)
    theirs = AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    lab = loaded(packed, dtype="float32")
    assert float((lab.record(IDS).logits - expected).abs().max()) < 1e-4
    assert lab.stored_as == "MLX, 4 bits in groups of 32"
    own = load_model(plain, dtype="float32")
    for one, other in zip(lab.model.parameters(), own.parameters(), strict=True):
        assert torch.equal(one, other)
    streamed = loaded(packed, dtype="float32", memory="80MB")
    assert torch.equal(streamed.record(IDS).logits, lab.record(IDS).logits)


def test_a_config_with_two_kinds_of_quantisation_is_refused(folders, tmp_path):
    folder = tmp_path / "both"
    shutil.copytree(folders["gptq"][0], folder)
    fields = json.loads((folder / "config.json").read_text())
    fields["quantization"] = {"bits": 4, "group_size": 64}
    (folder / "config.json").write_text(json.dumps(fields))
    with pytest.raises(CheckpointError, match="describes quantised weights twice"):
        load_model(folder)


def test_a_setting_with_control_characters_is_refused_in_one_printable_line():
    fields = {"activation_scheme": "dynamic", "weight_block_size": "a\x00b"}
    with pytest.raises(CheckpointError) as refused:
        Fp8.from_config(fields)
    assert r"a\x00b" in str(refused.value) and str(refused.value).isprintable()
