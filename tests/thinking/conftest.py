import pytest

import qwen3lab
from tests.conftest import DEVICE


@pytest.fixture(scope="session")
def labs(tiny_lab):
    """Both embedded models by name."""
    dense = qwen3lab.load("tiny-dense", device=DEVICE, dtype="float32")
    return {"tiny-moe": tiny_lab, "tiny-dense": dense}
