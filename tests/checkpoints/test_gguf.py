"""GGUF files, written by the `gguf` package, as transformers reads them and its decoder decodes."""

import json
import re
import shutil

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

import qwen3lab
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.checkpoints.gguf_file import EXPERTS, INSIDE, OUTSIDE, GgufFile
from qwen3lab.errors import CheckpointError, HeadlessError

IDS = [5, 60, 7, 812, 9, 33]
TYPES = gguf.GGMLQuantizationType
LLAMA_NAME = {published: name for name, published in OUTSIDE.items()}


def llama_tensors(name):
    """A model's tensors under llama.cpp's names, experts stacked."""
    tensors, stacks = {}, {}
    for published, value in load_file(EMBEDDED / name / "model.safetensors").items():
        value = value.float().numpy()
        match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", published)
        if match is None:
            tensors[LLAMA_NAME[published]] = value
        elif expert := re.fullmatch(r"mlp\.experts\.(\d+)\.(\w+)", match[2]):
            inner = next(k for k, leaf in EXPERTS.items() if leaf == expert[2])
            stacks.setdefault(f"blk.{match[1]}.{inner}.weight", {})[int(expert[1])] = value
        else:
            inner = next(k for k, leaf in INSIDE.items() if leaf == match[2])
            tensors[f"blk.{match[1]}.{inner}.weight"] = value
    for stacked, by_expert in stacks.items():
        tensors[stacked] = np.stack([by_expert[e] for e in range(len(by_expert))])
    return tensors


def write_fields(writer, name, **changes):
    config = json.loads((EMBEDDED / name / "config.json").read_text())
    is_moe = config["model_type"] == "qwen3_moe"
    rope = config.get("rope_parameters") or config
    fields = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.value_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "rope.freq_base": float(rope["rope_theta"]),
    }
    if is_moe:
        fields |= {
            "expert_count": config["num_experts"],
            "expert_used_count": config["num_experts_per_tok"],
            "expert_feed_forward_length": config["moe_intermediate_size"],
        }
    for key, value in (fields | changes).items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        if isinstance(value, str):
            add = writer.add_string
        if value is not None:
            add(f"{writer.arch}.{key}", value)


def write_tokenizer(writer, name):
    stored = json.loads((EMBEDDED / name / "tokenizer.json").read_text())
    tokens = {**stored["model"]["vocab"], **{t["content"]: t["id"] for t in stored["added_tokens"]}}
    special = {t["content"] for t in stored["added_tokens"]}
    order = sorted(tokens, key=tokens.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(order)
    writer.add_token_types([3 if token in special else 1 for token in order])
    merges = stored["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    writer.add_eos_token_id(tokens["<|im_end|>"])


def write_gguf(
    path, name, kind=TYPES.Q8_0, *, arch=None, change=lambda tensors: None, split=0, **changes
):
    """Write an embedded model as GGUF, its matrices in one type, in parts of `split` tensors."""
    is_moe = name == "tiny-moe"
    arch = arch or ("qwen3moe" if is_moe else "qwen3")
    writer = gguf.GGUFWriter(path, arch, split_max_tensors=split)
    write_fields(writer, name, **changes)
    write_tokenizer(writer, name)
    tensors = llama_tensors(name)
    change(tensors)
    for key, value in tensors.items():
        plain = value.ndim == 1 or "gate_inp" in key or kind == TYPES.F32
        stored = value if plain else gguf.quants.quantize(value, kind)
        writer.add_tensor(key, stored, raw_dtype=TYPES.F32 if plain else kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module", params=["tiny-dense", "tiny-moe"])
def named(request):
    return request.param


@pytest.mark.parametrize("kind", [TYPES.F32, TYPES.F16, TYPES.BF16, TYPES.Q8_0, TYPES.Q4_0])
def test_weights_are_those_that_the_package_decodes(named, kind, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", named, kind)
    file, expected = GgufFile(path), load_file(EMBEDDED / named / "model.safetensors")
    assert file.names() == set(expected)
    for name, value in expected.items():
        value = value.float().numpy()
        if kind != TYPES.F32 and value.ndim > 1 and not name.endswith("mlp.gate.weight"):
            value = gguf.quants.dequantize(gguf.quants.quantize(value, kind), kind)
        assert torch.equal(file.tensor(name), torch.from_numpy(np.array(value, dtype="f4")))
        assert file.shape(name) == value.shape
    assert file.described == f"GGUF, {kind.name}"


@pytest.mark.parametrize(("kind", "scale_at"), [(TYPES.Q4_K, 0), (TYPES.Q6_K, 208)])
def test_super_blocks_are_decoded_row_by_row(kind, scale_at, tmp_path):
    rows, n_bytes = 6, gguf.GGML_QUANT_SIZES[kind][1]
    packed = np.random.default_rng(0).integers(0, 256, (rows, 2 * n_bytes), dtype=np.uint8)
    scale = np.frombuffer(np.array([0.01, 0.02], "<f2").tobytes(), np.uint8)
    for start in (0, n_bytes):
        n = min(4, n_bytes - scale_at)
        packed[:, start + scale_at : start + scale_at + n] = scale[:n]
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "qwen3")
    writer.add_tensor("blk.0.ffn_down.weight", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file, name = GgufFile(tmp_path / "model.gguf"), "model.layers.0.mlp.down_proj.weight"
    assert file.shape(name) == (rows, 512) and file.described == f"GGUF, {kind.name}"
    expected = torch.from_numpy(gguf.quants.dequantize(packed, kind))
    assert torch.equal(file.tensor(name), expected) and bool(expected.isfinite().all())


def test_a_file_opens_by_its_name_and_computes_what_the_model_does(named, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", named, TYPES.F32)
    lab = qwen3lab.load(path, device="cpu")
    own = qwen3lab.load(named, device="cpu", dtype="float32")
    torch.testing.assert_close(lab.record(IDS).logits, own.record(IDS).logits, atol=1e-4, rtol=1e-4)
    assert lab.config == own.config
    for text in ("7+2*3=?", "小明拿着球。", "<think>\n"):
        assert lab.token_ids(text) == own.token_ids(text)
    assert "decoded from GGUF, F32" in repr(lab)


def test_logits_are_those_of_transformers_on_the_same_file(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", "tiny-dense")
    # Its own config of a GGUF file has heads of 128 values, as all published Qwen3.
    config = AutoConfig.from_pretrained(EMBEDDED / "tiny-dense")
    theirs = AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file="model.gguf", config=config, dtype=torch.float32
    ).eval()
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    lab = qwen3lab.load(path, device="cpu", dtype="float32")
    torch.testing.assert_close(lab.record(IDS).logits, expected, atol=1e-3, rtol=1e-3)
    streamed = qwen3lab.load(path, device="cpu", dtype="float32", memory="60MB")
    assert torch.equal(streamed.record(IDS).logits, lab.record(IDS).logits)


def test_a_tokenizer_beside_the_file_is_taken_before_the_one_inside(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", "tiny-dense")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((EMBEDDED / "tiny-dense" / name).read_bytes())
    lab = qwen3lab.load(path, device="cpu")
    own = qwen3lab.load("tiny-dense", device="cpu")
    chat = [{"role": "user", "content": "7+2=?"}]
    assert lab.token_ids(chat, thinking=False) == own.token_ids(chat, thinking=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"arch": "llama"}, "architecture 'llama'"),
        ({"rope.scaling.type": "linear"}, "rope.scaling.type as linear"),
        ({"attention.value_length": 16}, "attention.value_length as 16"),
        ({"block_count": None}, "has no field qwen3.block_count"),
        ({"change": lambda t: t.pop("token_embd.weight")}, "has no token_embd.weight"),
        ({"change": lambda t: t.pop("blk.2.attn_k.weight")}, "k_proj.weight is missing"),
        ({"change": lambda t: t.update(other=np.zeros(4, "f4"))}, "holds other"),
        ({"change": lambda t: t["blk.0.attn_norm.weight"].fill(np.nan)}, "not finite"),
    ],
)
def test_files_that_are_not_read_are_refused(tmp_path, options, message):
    path = write_gguf(tmp_path / "model.gguf", "tiny-dense", **options)
    with pytest.raises(CheckpointError, match=message):
        qwen3lab.load(path, device="cpu", dtype="float32")


def test_a_file_that_is_cut_or_changes_is_refused(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", "tiny-dense")
    whole = path.read_bytes()
    for n in (0, 3, 100, len(whole) // 2, len(whole) - 1000):
        cut = tmp_path / f"cut{n}.gguf"
        cut.write_bytes(whole[:n])
        with pytest.raises(CheckpointError, match="fetch it again"):
            qwen3lab.load(cut, device="cpu")
    file = GgufFile(path)
    path.write_bytes(whole + b"0")
    with pytest.raises(CheckpointError, match="has changed since"):
        file.tensor("model.norm.weight")
    with pytest.raises(CheckpointError, match="neither a folder nor an embedded model"):
        qwen3lab.load(tmp_path / "none.gguf", device="cpu")


def a_third(name):
    """The number of tensors in each of three parts."""
    return -(-len(llama_tensors(name)) // 3)


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    """The three parts of a model that the package split, and the model in one file."""
    folder = tmp_path_factory.mktemp("split")
    write_gguf(folder / "model.gguf", "tiny-dense", split=a_third("tiny-dense"))
    parts = sorted(folder.glob("*-of-*.gguf"))
    assert len(parts) == 3 and parts[0].name == "model-00001-of-00003.gguf"
    return parts, write_gguf(folder / "whole.gguf", "tiny-dense")


def test_all_parts_are_read_whichever_is_named(split):
    parts, whole = split
    expected = GgufFile(whole)
    for part in parts:
        file = GgufFile(part)
        assert file.names() == expected.names() and file.config() == expected.config()
        assert all(torch.equal(file.tensor(n), expected.tensor(n)) for n in expected.names())
        assert len(file.file_stamps()) == 3
    labs = [qwen3lab.load(path, device="cpu") for path in (parts[1], whole)]
    assert torch.equal(*(lab.record(IDS).logits for lab in labs))
    assert labs[0].token_ids("7+2*3=?") == labs[1].token_ids("7+2*3=?")


@pytest.mark.parametrize("missing", range(3))
def test_a_missing_part_is_named(split, tmp_path, missing):
    for place, part in enumerate(split[0]):
        if place != missing:
            shutil.copyfile(part, tmp_path / part.name)
    given = tmp_path / split[0][(missing + 1) % 3].name
    with pytest.raises(CheckpointError, match=rf"-0000{missing + 1}-of-00003.gguf is missing, one"):
        qwen3lab.load(given, device="cpu")


def test_parts_that_do_not_belong_together_are_refused(split, tmp_path):
    names = [part.name for part in split[0]]
    for name, part in zip(names, [split[0][0], split[0][2], split[0][1]], strict=True):
        shutil.copyfile(part, tmp_path / name)
    with pytest.raises(CheckpointError, match=r"00002-of-00003\.gguf is not part 2 of 3"):
        GgufFile(tmp_path / names[0])
    renamed = tmp_path / "model.gguf"
    shutil.copyfile(split[0][0], renamed)
    with pytest.raises(CheckpointError, match="which its name does not say"):
        GgufFile(renamed)
    other = tmp_path / "other"
    other.mkdir()
    write_gguf(other / "model.gguf", "tiny-moe", split=a_third("tiny-moe"))
    for part in split[0][:2]:
        shutil.copyfile(part, other / part.name)
    with pytest.raises(CheckpointError, match="fetch all parts again"):
        GgufFile(other / names[0])


def test_a_part_that_changes_is_noticed(split, tmp_path):
    for part in split[0]:
        shutil.copyfile(part, tmp_path / part.name)
    file = GgufFile(tmp_path / split[0][0].name)
    last = tmp_path / split[0][2].name
    last.write_bytes(last.read_bytes() + b"0")
    assert not file.is_unchanged()


def test_an_embedding_model_has_no_logits(tmp_path):
    path = write_gguf(tmp_path / "model.gguf", "tiny-dense", TYPES.F32, pooling_type=3)
    lab = qwen3lab.load(path, device="cpu", dtype="float32")
    own = qwen3lab.load("tiny-dense", device="cpu", dtype="float32")
    hook = "ln_final.hook_normalized"
    assert torch.equal(lab.record(IDS, capture=hook)[hook], own.record(IDS, capture=hook)[hook])
    with pytest.raises(HeadlessError):
        lab.generate("3+4=?")
