"""`qwen3lab verify` agrees with transformers on every stand-in, layer by layer."""

import pytest

from qwen3lab.verification import verify

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_stand_in_agrees_with_transformers(folder, dtype):
    found = verify(folder, device="cpu", dtype=dtype, layered=True, tokens=2, progress=False)
    assert found.ok, found.line
    assert set(found.prompts) == {"English", "Chinese", "code", "chat"}
