"""Dtypes and devices that a model can have, and the sentence for all others."""

import numpy as np
import pytest
import torch

import qwen3lab
from qwen3lab.device import device_of, dtype_of
from qwen3lab.errors import DeviceError, DtypeError


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
