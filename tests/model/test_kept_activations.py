"""The forward pass gives the activations of 0.1.0, bit for bit on the same kind of machine."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.model.kept import activations, machine

KEPT = Path(__file__).parent / "data" / "activations_of_0_1.safetensors"


@pytest.mark.parametrize("name", ["tiny-moe", "tiny-dense"])
def test_activations_equal_those_of_version_0_1(name):
    with safe_open(KEPT, framework="pt") as file:
        made_on = file.metadata()
        kept = {key: file.get_tensor(key) for key in file.keys() if key.startswith(f"{name} ")}  # noqa: SIM118
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        computed = activations(name)
    finally:
        torch.set_num_threads(threads)
    assert computed.keys() == kept.keys() and len(kept) > 20
    same_machine = machine() | {"threads": "1"} == made_on
    for key, value in kept.items():
        if same_machine:
            assert torch.equal(computed[key], value), key
        else:  # Other kernels round differently.
            torch.testing.assert_close(computed[key], value, rtol=1e-4, atol=1e-4, msg=key)
