"""The forward pass gives the activations of 0.1.0, but for the rounding of other kernels.

Processors of one instruction set differ by about 2e-5 in the residual stream: torch and its
libraries choose kernels by the model of the processor, too.
"""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.model.kept import activations

KEPT = Path(__file__).parent / "data" / "activations_of_0_1.safetensors"


@pytest.mark.parametrize("name", ["tiny-moe", "tiny-dense"])
def test_activations_equal_those_of_version_0_1(name):
    with safe_open(KEPT, framework="pt") as file:
        kept = {key: file.get_tensor(key) for key in file.keys() if key.startswith(f"{name} ")}  # noqa: SIM118
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        computed = activations(name)
    finally:
        torch.set_num_threads(threads)
    assert computed.keys() == kept.keys() and len(kept) > 20
    for key, value in kept.items():
        torch.testing.assert_close(computed[key], value, rtol=1e-4, atol=1e-4, msg=key)
