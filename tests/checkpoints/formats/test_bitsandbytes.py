"""bitsandbytes' matrices, as the library itself writes and decodes them."""

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

import qwen3lab
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.checkpoints.folder_contents import open_tensors_of
from qwen3lab.checkpoints.formats import bitsandbytes as ours
from qwen3lab.errors import CheckpointError
from tests.checkpoints.formats.headers import headers_of

bnb = pytest.importorskip("bitsandbytes")
KINDS = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "nf4, scales quantised": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    },
    "fp4": {"load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
    "int8": {"load_in_8bit": True},
}
IDS = [5, 60, 7, 812, 9]


def decoded_by_library(module):
    if isinstance(module, bnb.nn.Linear4bit):
        return bnb.functional.dequantize_4bit(module.weight.data, module.weight.quant_state)
    scales = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
    return bnb.functional.int8_vectorwise_dequant(module.weight.data, scales)


@pytest.fixture(scope="module", params=KINDS)
def stored(request, tmp_path_factory):
    """A folder that `transformers` saved with bitsandbytes, and its model."""
    folder, source = tmp_path_factory.mktemp("bnb") / "model", EMBEDDED / "tiny-dense"
    theirs = AutoModelForCausalLM.from_pretrained(
        source,
        quantization_config=BitsAndBytesConfig(**KINDS[request.param]),
        dtype=torch.float32,
        device_map="cpu",
    )
    for module in theirs.modules():
        # On a CPU with bfloat16 products the library rounds activations to that dtype.
        module.support_avx512bf16_for_cpu = False
    theirs.save_pretrained(folder)
    for path in source.glob("token*"):
        shutil.copyfile(path, folder / path.name)
    return folder, theirs


@pytest.mark.filterwarnings("ignore")  # The library warns of its own casts.
def test_every_matrix_is_decoded_as_the_library_decodes_it(stored):
    folder, theirs = stored
    tensors, n = open_tensors_of(folder), 0
    for name, module in theirs.named_modules():
        if isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
            assert torch.equal(tensors.tensor(f"{name}.weight"), decoded_by_library(module))
            n += 1
    assert n == 42


@pytest.mark.filterwarnings("ignore")
def test_logits_are_the_librarys_where_it_does_not_round_activations(stored):
    folder, theirs = stored
    lab = qwen3lab.load(folder, device="cpu", dtype="float32")
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    if "8 bits" not in lab.stored_as:  # There it rounds activations to int8.
        assert float((lab.record(IDS).logits - expected).abs().max()) < 1e-4
    assert "decoded from bitsandbytes" in repr(lab)


def parts_of(**changes):
    """The parts of a matrix in NF4, with changes to what it says about itself."""
    kind, weight = "nf4", torch.randn(8, 32, generator=torch.Generator().manual_seed(0))
    packed, state = bnb.functional.quantize_4bit(weight, blocksize=64, quant_type=kind)
    fields = {"quant_type": kind, "blocksize": 64, "dtype": "float32", "shape": [8, 32]}
    said = torch.tensor(list(json.dumps(fields | changes).encode()), dtype=torch.uint8)
    return {
        "weight": packed,
        "weight.absmax": state.absmax,
        "weight.quant_map": state.code,
        f"weight.quant_state.bitsandbytes__{kind}": said,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"blocksize": 48}, "does not write"),
        ({"shape": [8, 64]}, r"m\.weight is stored as U8"),
        ({"shape": [256]}, "does not write"),
        ({"quant_type": "fp4"}, "does not write"),
        ({"nested_blocksize": 256}, "only some of the tensors"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(changes, message):
    parts = parts_of(**changes)
    with pytest.raises(CheckpointError, match=message):
        ours.Bits4().shape("m", headers_of(parts), parts.__getitem__)


def test_damaged_parts_are_refused():
    parts = parts_of()
    key = "weight.quant_state.bitsandbytes__nf4"
    broken = parts | {key: parts[key][:-3]}
    with pytest.raises(CheckpointError, match="is damaged"):
        ours.Bits4().shape("m", headers_of(broken), broken.__getitem__)
    other = parts | {"weight.quant_map": parts["weight.quant_map"].flip(0)}
    with pytest.raises(CheckpointError, match="other levels than nf4 has"):
        ours.Bits4().decode("m", other)
    for missing in ("weight.absmax", key):
        left = {part: value for part, value in parts.items() if part != missing}
        with pytest.raises(CheckpointError, match="without which bitsandbytes weights cannot"):
            ours.Bits4().shape("m", headers_of(left), left.__getitem__)


@pytest.mark.parametrize("fields", [{}, {"load_in_4bit": True, "load_in_8bit": True}])
def test_a_config_that_names_no_kind_is_refused(fields):
    with pytest.raises(CheckpointError, match="neither load_in_4bit nor load_in_8bit"):
        ours.from_config(fields)
