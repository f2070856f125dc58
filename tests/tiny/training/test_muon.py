"""Muon compared with `torch.optim.Muon`, its updates with the singular value decomposition."""

import pytest
import torch
from torch.nn import Parameter

from qwen3lab.tiny.training.muon import Muon, orthogonal


def random_tensor(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(16, 16), (8, 24), (24, 8)])
def test_steps_equal_those_of_torch(shape: tuple[int, int], dtype: torch.dtype) -> None:
    ours, theirs = Parameter(random_tensor(*shape)), Parameter(random_tensor(*shape))
    options = {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.9}
    optimizers = [
        Muon([ours], **options, dtype=dtype),
        torch.optim.Muon([theirs], **options, adjust_lr_fn="match_rms_adamw"),
    ]
    for step in range(5):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = random_tensor(*shape, seed=step + 1)
            optimizer.step()
    moved = (theirs - random_tensor(*shape)).norm()
    # The tolerance is for multiplications in bfloat16: torch's, or those of both.
    tolerance = 0.02 if dtype == torch.float32 else 0.05
    assert (ours - theirs).norm() < tolerance * moved


def test_singular_vectors_stay_and_singular_values_become_about_one() -> None:
    matrix = random_tensor(12, 20)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    assert s.max() / s.min() > 3
    inner = u.T @ orthogonal(matrix) @ v.T
    values = inner.diagonal()
    assert ((values > 0.6) & (values < 1.3)).all()
    assert torch.allclose(inner, torch.diag(values), atol=1e-4)


def test_each_matrix_of_a_stack_is_orthogonalised_separately() -> None:
    stack = random_tensor(3, 6, 10)
    apart = torch.stack([orthogonal(matrix) for matrix in stack])
    assert torch.allclose(orthogonal(stack), apart, atol=1e-5)


def test_parameters_of_the_same_shape_are_updated_independently() -> None:
    together = [Parameter(random_tensor(6, 4, seed=seed)) for seed in range(2)]
    alone = [Parameter(random_tensor(6, 4, seed=seed)) for seed in range(2)]
    for pair in (together, alone):
        for seed, parameter in enumerate(pair):
            parameter.grad = random_tensor(6, 4, seed=seed + 7)
    Muon(together, 0.1).step()
    for parameter in alone:
        Muon([parameter], 0.1).step()
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_parameter_without_gradient_is_unchanged() -> None:
    parameter = Parameter(random_tensor(4, 4))
    Muon([parameter], 0.1, weight_decay=0.5).step()
    assert torch.equal(parameter, random_tensor(4, 4))
