"""Damaged, renamed, surplus and missing weights, against transformers on the same folder.

`model_folders.check_loading` states what may come out.
"""

import json
import struct
from typing import Any

import torch
from hypothesis import given, strategies as st
from torch import Tensor

from tests.fuzz.cases import fuzz
from tests.fuzz.model_folders import (
    BASES,
    CONFIG,
    INDEX,
    SINGLE,
    base,
    check_loading,
    sharded,
    stored,
    tensors,
    with_json,
    with_tensors,
)
from tests.fuzz.mutations import byte_mutations, json_mutations, mostly

NAMES = st.sampled_from(list(BASES))
DTYPES = [
    *(torch.bfloat16, torch.float16, torch.float64, torch.float32),
    *(torch.int8, torch.int64, torch.bool, torch.float8_e4m3fn),
]
EMBEDDING, UNEMBEDDING = "model.embed_tokens.weight", "lm_head.weight"
SURPLUS = [
    "model.layers.2.input_layernorm.weight",
    "model.layers.0.self_attn.q_proj.bias",
    "model.layers.0.self_attn.rotary_emb.inv_freq",
    "model.rotary_emb.inv_freq",
    "model.layers.0.mlp.gate_proj.weight_scale",
    "model.layers.0.mlp.experts.4.gate_proj.weight",
    "model.layers.0.mlp.experts.gate_up_proj",
    "model.layers.0.mlp.gate.weight",
    "model.layers.0.mlp.gate_proj.weight",
    "model.layers.0.self_attn.q_proj.lora_A.weight",
    "lm_head.weight",
    "lm_head.bias",
    "embed_tokens.weight",
    "norm.weight",
    "model.model.norm.weight",
    "score.weight",
    "x",
    "",
]
PREFIXES = [
    "model.",
    "module.",
    "_orig_mod.",
    "base_model.model.",
    "language_model.",
    "transformer.",
]

Tensors = dict[str, Tensor]


def _some(draw: Any, values: Tensors) -> str:
    return draw(st.sampled_from(sorted(values)))


def _without_prefix(draw: Any, values: Tensors) -> Tensors:
    keep = draw(st.booleans())
    short = {name.removeprefix("model."): value for name, value in values.items()}
    return values | short if keep else short


def _with_prefix(draw: Any, values: Tensors) -> Tensors:
    prefix = draw(st.sampled_from(PREFIXES))
    return {prefix + name: value for name, value in values.items()}


def _dropped(draw: Any, values: Tensors) -> Tensors:
    name = _some(draw, values)
    return {n: value for n, value in values.items() if n != name}


def _renamed(draw: Any, values: Tensors) -> Tensors:
    name = _some(draw, values)
    new = draw(
        st.sampled_from([*SURPLUS, name.removeprefix("model."), name.upper(), name + " "])
        | st.text(max_size=12)
    )
    return {new if n == name else n: value for n, value in values.items()}


def _exchanged(draw: Any, values: Tensors) -> Tensors:
    one, other = _some(draw, values), _some(draw, values)
    return values | {one: values[other], other: values[one]}


def _surplus(draw: Any, values: Tensors) -> Tensors:
    like = values[_some(draw, values)]
    extra = draw(st.sampled_from([like, torch.zeros(2), torch.zeros(0), torch.tensor(1.0)]))
    return values | {draw(st.sampled_from(SURPLUS)): extra}


def _converted(draw: Any, values: Tensors) -> Tensors:
    kind = draw(st.sampled_from(DTYPES))
    names = draw(st.sampled_from([sorted(values), [_some(draw, values)]]))
    return values | {name: values[name].to(kind) for name in names}


def _reshaped(draw: Any, values: Tensors) -> Tensors:
    name = _some(draw, values)
    value = values[name]
    shapes = [value[None], value.flatten(), value.flatten()[:0], value.flatten()[:1]]
    if value.ndim:
        shapes += [value[:-1], value[..., :1], value.transpose(0, -1), torch.cat([value, value])]
    return values | {name: draw(st.sampled_from(shapes))}


def _unembedded(draw: Any, values: Tensors) -> Tensors:
    """The unembedding as a copy of the embedding, almost a copy, alone, or absent."""
    embedding = values.get(EMBEDDING, torch.zeros(60, 16))
    changed = embedding.clone().contiguous()
    if changed.numel() and changed.dtype in DTYPES[:4]:
        changed.view(-1)[-1] += draw(st.sampled_from([0.0, 1e-3, 1.0]))
    values = values | {UNEMBEDDING: changed.to(draw(st.sampled_from(DTYPES[:4])))}
    gone = draw(st.sampled_from(["", EMBEDDING, UNEMBEDDING]))
    return {name: value for name, value in values.items() if name != gone}


def _special_values(draw: Any, values: Tensors) -> Tensors:
    name = _some(draw, values)
    if values[name].dtype not in DTYPES[:4] or not values[name].numel():
        return values
    changed = values[name].clone().contiguous()
    value = draw(st.sampled_from([0.0, -0.0, 1e30, 6.6e4, 1e-40, float("nan"), float("inf")]))
    changed.view(-1)[draw(st.integers(0, changed.numel() - 1))] = value
    return values | {name: changed}


def _fused(draw: Any, values: Tensors) -> Tensors:
    """The experts of one layer as two tensors, as older versions of transformers have them."""
    inside = f"model.layers.{draw(st.integers(0, 1))}.mlp.experts."
    parts = {n: v for n, v in values.items() if n.startswith(inside)}
    try:
        up = [
            torch.cat([parts[f"{inside}{e}.{leaf}_proj.weight"] for leaf in ("gate", "up")])
            for e in range(4)
        ]
        down = [parts[f"{inside}{e}.down_proj.weight"] for e in range(4)]
        fused = {
            f"{inside}gate_up_proj": torch.stack(up),
            f"{inside}down_proj": torch.stack(down),
        }
    except (KeyError, RuntimeError):
        return values
    kept = {} if draw(st.integers(0, 3)) else parts
    return {n: v for n, v in values.items() if n not in parts} | fused | kept


CHANGES = [
    *(_without_prefix, _with_prefix, _dropped, _renamed, _exchanged, _surplus, _converted),
    *(_reshaped, _unembedded, _special_values, _fused),
]


@st.composite
def changed_tensors(draw: Any, name: str) -> Tensors:
    """The tensors of a base folder after one to three changes."""
    values = dict(tensors(name))
    for _ in range(draw(st.sampled_from([1, 1, 2, 3]))):
        values = draw(st.sampled_from(CHANGES))(draw, values)
    return values


@st.composite
def ties(draw: Any, name: str) -> dict[str, Any]:
    """config.json of a base folder, with the embeddings tied, or not, or without a word."""
    fields = json.loads(base(name)[CONFIG])
    tied = draw(st.sampled_from(["as it is", True, False, None]))
    if tied is None:
        del fields["tie_word_embeddings"]
    elif tied != "as it is":
        fields["tie_word_embeddings"] = tied
    return fields


@st.composite
def damaged_header(draw: Any, header: dict[str, Any]) -> bytes:
    """A header with fields of two tensors exchanged, a tensor listed twice, or another dtype."""
    one, other = draw(st.permutations(sorted(set(header) - {"__metadata__"})))[:2]
    alike = [name for name in header if header[name].get("shape") == header[one]["shape"]]
    other = draw(st.sampled_from([other, *alike]))
    kind = draw(st.sampled_from(["fields", "names", "twice", "dtype", "any", "any"]))
    if kind == "any":
        header = draw(json_mutations(header, changes=3))
    elif kind == "names":
        header = {{one: other, other: one}.get(name, name): header[name] for name in header}
    elif kind == "fields":
        field = draw(st.sampled_from(["shape", "data_offsets", "dtype"]))
        changed = {one: header[one] | {field: header[other][field]}}
        header = header | {other: header[other] | {field: header[one][field]}} | changed
    elif kind == "dtype":
        codes = ["I32", "U32", "F16", "BF16", "F64", "F8_E4M3", "C64", "f32", "F32 ", 7]
        header = header | {one: header[one] | {"dtype": draw(st.sampled_from(codes))}}
    text = json.dumps(header, ensure_ascii=draw(st.booleans()))
    if kind == "twice":
        again = json.dumps(header[other] | {"data_offsets": header[one]["data_offsets"]})
        text = f"{{{json.dumps(other)}: {again}, {text[1:]}"
    return text.encode("utf-8", errors="surrogatepass")


@fuzz("checkpoints", 0.4)
@given(name=NAMES, data=st.data())
def test_changed_tensors_give_the_logits_of_transformers(name, data):
    files = with_tensors(base(name), data.draw(changed_tensors(name)))
    check_loading(with_json(files, CONFIG, data.draw(ties(name))))


@fuzz("checkpoints", 0.15)
@given(name=NAMES, data=st.data())
def test_a_damaged_header_gives_the_logits_of_transformers(name, data):
    whole = base(name)[SINGLE]
    start = 8 + struct.unpack("<Q", whole[:8])[0]
    header = data.draw(damaged_header(json.loads(whole[8:start])))
    lengths = st.sampled_from([len(header) + 8, len(header) - 1, 2**63, 2**40, 0])
    length = data.draw(mostly(st.just(len(header)), lengths))
    check_loading({**base(name), SINGLE: struct.pack("<Q", length) + header + whole[start:]})


@fuzz("checkpoints", 0.15)
@given(name=NAMES, change=byte_mutations(0.2) | byte_mutations())
def test_damaged_bytes_of_weights_give_the_logits_of_transformers(name, change):
    files = base(name)
    check_loading({**files, SINGLE: change(files[SINGLE])})


@fuzz("checkpoints", 0.15)
@given(name=NAMES, data=st.data())
def test_a_damaged_index_gives_the_logits_of_transformers(name, data):
    files = sharded(name)
    if data.draw(st.booleans()):
        index = data.draw(json_mutations(json.loads(files[INDEX]), changes=3))
        check_loading(with_json(files, INDEX, index))
    else:
        change = data.draw(byte_mutations())
        check_loading({**files, INDEX: change(files[INDEX])})


@fuzz("checkpoints", 0.15)
@given(name=NAMES, data=st.data())
def test_shards_that_are_mixed_up_give_the_logits_of_transformers(name, data):
    files = dict(sharded(name))
    shards = sorted(file for file in files if file.endswith(".safetensors"))
    one, other = data.draw(st.permutations(shards))[:2]
    kind = data.draw(st.sampled_from(MIXTURES))
    if kind == "missing":
        del files[one]
    elif kind == "doubled":
        files[one] = files[other]
    elif kind == "exchanged":
        files[one], files[other] = files[other], files[one]
    elif kind == "renamed":
        files[data.draw(st.sampled_from(["model.safetensors", "a.bin", one.upper()]))] = files.pop(
            one
        )
    elif kind == "surplus":
        files["model-00004-of-00003.safetensors"] = data.draw(
            st.sampled_from([files[one], stored({"x": torch.ones(2)}), b""])
        )
    elif kind == "beside one file":
        files[SINGLE] = data.draw(st.sampled_from([base(name)[SINGLE], files[one], b""]))
    elif kind == "without an index":
        del files[INDEX]
    elif kind == "of another model":
        files[one] = sharded(data.draw(NAMES))[one]
    elif kind == "with a tensor twice":
        files[one] = stored(data.draw(changed_tensors(name)))
    check_loading(files)


MIXTURES = [
    *("missing", "doubled", "exchanged", "renamed", "surplus", "beside one file"),
    *("without an index", "of another model", "with a tensor twice"),
]
