"""Dtypes and devices that a model can have, and the sentence for all others."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import qwen3lab
from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.device import device_of, dtype_of, dtypes
from qwen3lab.errors import DeviceError, DtypeError
from qwen3lab.loading import from_transformers, open_checkpoint
from tests.reference import gap, hf_random, tokens

CPU = torch.device("cpu")
LARGE = 596_049_920
"""Parameters of Qwen3-0.6B."""


@pytest.mark.parametrize(
    "dtype",
    [
        *("float8", "FLOAT32", "torch.float32", 5, ["float32"], np.float32),
        *(torch.int8, torch.complex64, torch.float64, torch.float8_e4m3fn),
    ],
)
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(DtypeError, match="is unknown: choose from float32, bfloat16, float16"):
        dtype_of(dtype)


def test_other_dtypes_are_refused_for_weights_and_for_recordings(tiny_lab):
    with pytest.raises(DtypeError, match=r"torch.int8 is unknown"):
        qwen3lab.load("tiny-dense", device="cpu", dtype=torch.int8)
    with pytest.raises(DtypeError, match=r"torch.complex64 is unknown"):
        tiny_lab.record("3+2=?", dtype=torch.complex64)


def test_a_dtype_and_its_name_are_the_same():
    assert dtype_of("bfloat16") is dtype_of(torch.bfloat16) is torch.bfloat16


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta", 5, "", "cpu ", None])
def test_devices_that_cannot_hold_a_model_are_refused_before_it_is_read(device):
    with pytest.raises(DeviceError, match=r"(cannot be used|holds no values).*: choose 'cpu'"):
        device_of(device)
    if isinstance(device, str):
        with pytest.raises(DeviceError):
            qwen3lab.load("tiny-dense", device=device)


def test_the_cpu_is_a_device():
    assert device_of("cpu") == device_of(torch.device("cpu")) == torch.device("cpu")


@pytest.fixture
def fast(monkeypatch):
    """As on a processor that multiplies bfloat16 fast, whatever this one does."""
    monkeypatch.setattr(dtypes, "multiplies_bfloat16_fast", lambda: True)


@pytest.mark.usefixtures("fast")
def test_only_large_models_that_are_stored_in_bfloat16_run_in_it_on_a_cpu(monkeypatch):
    assert dtypes.default_dtype(CPU, torch.bfloat16, LARGE) == torch.bfloat16
    assert dtypes.default_dtype(CPU, torch.bfloat16, 2_865_152) == torch.float32  # tiny-moe
    assert dtypes.default_dtype(CPU, torch.float32, LARGE) == torch.float32
    assert dtypes.default_dtype(CPU, torch.float16, LARGE) == torch.float32
    for stored in (torch.bfloat16, torch.float16, torch.float32):
        assert dtypes.default_dtype(torch.device("cuda"), stored, LARGE) == stored
    monkeypatch.setattr(dtypes, "multiplies_bfloat16_fast", lambda: False)
    assert dtypes.default_dtype(CPU, torch.bfloat16, LARGE) == torch.float32


@pytest.mark.parametrize(
    ("flags", "seconds", "expected"),
    [
        pytest.param((True, False), None, True, id="avx512_bf16"),
        pytest.param((False, True), None, True, id="amx"),
        pytest.param((False, False), ([1, 1], [2, 2]), True, id="measured faster"),
        pytest.param((False, False), ([1, 9], [2, 2]), False, id="slower for prompts"),
        pytest.param((False, False), ([1.9, 1.9], [2, 2]), False, id="hardly faster"),
    ],
)
def test_the_processor_s_flags_decide_and_without_one_a_measurement(
    monkeypatch, flags, seconds, expected
):
    for name, flag in zip(dtypes.FAST_BFLOAT16_FLAGS, flags, strict=True):
        monkeypatch.setattr(torch.cpu, name, lambda flag=flag: flag, raising=False)
    measured = dict(zip((torch.bfloat16, torch.float32), seconds or ((), ()), strict=True))
    asked = []
    monkeypatch.setattr(dtypes, "_product_seconds", lambda d: asked.append(d) or measured[d])
    assert dtypes.multiplies_bfloat16_fast.__wrapped__() is expected
    assert bool(asked) == (seconds is not None)


def test_a_measurement_gives_a_time_for_each_number_of_rows():
    found = dtypes._product_seconds(torch.float32)
    assert len(found) == len(dtypes.MEASURED_ROWS) and min(found) > 0


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("memory", [None, "1GB"])
def test_a_published_model_keeps_its_weights_on_a_cpu_and_float32_is_on_request(
    tmp_path, monkeypatch, memory
):
    monkeypatch.setattr(dtypes, "MIN_PARAMS_IN_BFLOAT16", 1)
    save_checkpoint(from_transformers(hf_random("dense")), tmp_path, dtype="bfloat16")
    halved, full = (
        open_checkpoint(tmp_path, dtype=dtype, memory=memory).model for dtype in (None, "float32")
    )
    assert (halved.dtype, full.dtype) == (torch.bfloat16, torch.float32)
    with torch.no_grad():
        for ours, most in ((halved, 0.05), (full, 1e-5)):
            theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=ours.dtype).eval()
            assert gap(ours(tokens()).float(), theirs(tokens()).logits.float()) < most


@pytest.mark.usefixtures("fast")
def test_weights_and_config_of_two_dtypes_run_in_float32_on_a_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(dtypes, "MIN_PARAMS_IN_BFLOAT16", 1)
    save_checkpoint(from_transformers(hf_random("dense")), tmp_path)
    file = tmp_path / "config.json"
    file.write_text(file.read_text().replace('"float32"', '"bfloat16"'))
    assert "bfloat16" in file.read_text()
    assert open_checkpoint(tmp_path).model.dtype == torch.float32


def test_the_embedded_models_run_in_float32_on_a_cpu_and_a_lab_says_what_it_runs_in():
    assert qwen3lab.load("tiny-moe", device="cpu").model.dtype == torch.float32
    halved = qwen3lab.load("tiny-dense", device="cpu", dtype="bfloat16")
    assert 'cpu, bfloat16 (dtype="float32" for more digits)' in repr(halved)
    assert "in twice the memory" in (halved._repr_html_() or "")
    assert "more digits" not in repr(qwen3lab.load("tiny-dense", device="cpu"))
