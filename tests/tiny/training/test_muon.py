"""Muon against torch's own, and its matrices against the singular value decomposition."""

import pytest
import torch
from torch.nn import Parameter

from qwen3lab.tiny.training.muon import Muon, orthogonal


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(16, 16), (8, 24), (24, 8)])
def test_steps_are_those_of_torch(shape: tuple[int, int]) -> None:
    ours, theirs = Parameter(drawn(*shape)), Parameter(drawn(*shape))
    options = {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.9}
    optimizers = [
        Muon([ours], **options),
        torch.optim.Muon([theirs], **options, adjust_lr_fn="match_rms_adamw"),
    ]
    for step in range(5):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = drawn(*shape, seed=step + 1)
            optimizer.step()
    moved = (theirs - drawn(*shape)).norm()
    assert (ours - theirs).norm() < 0.02 * moved, "torch's multiplies in bfloat16"


def test_directions_stay_and_sizes_become_about_one() -> None:
    matrix = drawn(12, 20)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    assert s.max() / s.min() > 3
    inner = u.T @ orthogonal(matrix) @ v.T
    sizes = inner.diagonal()
    assert ((sizes > 0.6) & (sizes < 1.3)).all()
    assert torch.allclose(inner, torch.diag(sizes), atol=1e-4)


def test_a_stack_is_turned_matrix_by_matrix() -> None:
    stack = drawn(3, 6, 10)
    apart = torch.stack([orthogonal(matrix) for matrix in stack])
    assert torch.allclose(orthogonal(stack), apart, atol=1e-5)


def test_alike_parameters_step_as_if_each_were_alone() -> None:
    together = [Parameter(drawn(6, 4, seed=seed)) for seed in range(2)]
    alone = [Parameter(drawn(6, 4, seed=seed)) for seed in range(2)]
    for pair in (together, alone):
        for seed, parameter in enumerate(pair):
            parameter.grad = drawn(6, 4, seed=seed + 7)
    Muon(together, 0.1).step()
    for parameter in alone:
        Muon([parameter], 0.1).step()
    for one, other in zip(together, alone, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_what_has_no_gradient_stays() -> None:
    parameter = Parameter(drawn(4, 4))
    Muon([parameter], 0.1, weight_decay=0.5).step()
    assert torch.equal(parameter, drawn(4, 4))
