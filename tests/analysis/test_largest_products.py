"""The largest entries of a product, compared with all of its entries in float64."""

import signal
import threading
import time

import pytest
import torch

from qwen3lab.analysis import bounded_products, largest_products as module, workers
from qwen3lab.analysis.largest_products import largest_products
from qwen3lab.errors import NonFiniteError

CPU = torch.device("cpu")


def by_brute_force(left, right, n):
    """All entries: largest first, equal ones by row, then by column."""
    full = left @ right.T
    values, places = full.flatten().sort(descending=True, stable=True)
    n = min(n, len(values))
    return list(zip(values[:n].tolist(), *_places(places[:n], len(right)), strict=True))


def _places(places, width):
    return (places // width).tolist(), (places % width).tolist()


def found(left, right, n):
    entries = largest_products(left, right, n)
    return list(
        zip(entries.values.tolist(), entries.rows.tolist(), entries.columns.tolist(), strict=True)
    )


def whole_numbers(kind, seed):
    """Matrices whose products are exact in float64, so that entries are equal where they tie."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(1, 90, (3,), generator=generator).tolist()
    rows, columns, d = sizes[0], sizes[1], max(1, sizes[2] // 2)
    left = torch.randint(-9, 10, (rows, d), generator=generator).double()
    right = torch.randint(-9, 10, (columns, d), generator=generator).double()
    if kind == "ties":
        left, right = left.sign(), right.sign()
    if kind == "equal rows":
        left = left[torch.randint(0, rows, (rows,), generator=generator) // 3]
        right = right[torch.randint(0, columns, (columns,), generator=generator) // 5]
    if kind == "rank one":
        left, right = left[:, :1] * right[0], right[:, :1] * left[0]
    if kind == "zero rows":
        left[rows // 3 :] = 0
    if kind == "all zero":
        right = right * 0
    if kind == "orthogonal":
        left[:, : d // 2], right[:, d // 2 :] = 0, 0
    if kind == "unlike lengths":
        left *= 2 ** torch.randint(0, 12, (rows, 1), generator=generator)
        right *= 2 ** torch.randint(0, 12, (columns, 1), generator=generator)
    if kind == "large mean":
        left, right = left + 100, right - 50
    return left, right


KINDS = ["plain", "ties", "equal rows", "rank one", "zero rows", "all zero", "orthogonal"]
KINDS += ["unlike lengths", "large mean"]


@pytest.fixture(params=[pytest.param("int8", marks=pytest.mark.int8_cpu), "float32"])
def in_small_blocks(request, monkeypatch):
    """Every search goes through several blocks in low precision."""
    if request.param == "int8" and not torch.cpu._is_vnni_supported():
        pytest.skip("this CPU has no fast int8 products")
    is_int8 = request.param == "int8"
    monkeypatch.setattr(module, "MAX_EXACT_PAIRS", 0)
    monkeypatch.setattr(bounded_products, "CPU_BLOCK", (7, 11))
    monkeypatch.setattr(bounded_products, "ROWS_AT_ONCE", 5)
    monkeypatch.setattr(
        bounded_products, "_has_fast_int8", lambda matrix: is_int8 and matrix.shape[1] > 1
    )


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_those_of_the_whole_product_in_its_order(kind, in_small_blocks):
    for seed in range(12):
        left, right = whole_numbers(kind, seed)
        for n in (1, 6, 40, len(left) * len(right) + 3):
            assert found(left, right, n) == by_brute_force(left, right, n)


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_product_is_computed_as_a_whole(kind):
    left, right = whole_numbers(kind, 3)
    assert found(left, right, 9) == by_brute_force(left, right, 9)


@pytest.mark.parametrize("tie", [0.0, 1e-9])
def test_entries_that_float32_cannot_tell_apart_are_ranked(tie, in_small_blocks):
    generator = torch.Generator().manual_seed(0)
    steps = torch.randn(60, 24, generator=generator, dtype=torch.float64)
    left = torch.ones(60, 24, dtype=torch.float64) + tie * steps
    right = torch.ones(50, 24, dtype=torch.float64) + tie * steps[:50].flip(0)
    expected = by_brute_force(left, right, 8)
    entries = found(left, right, 8)
    assert [value for value, _, _ in entries] == pytest.approx(
        [value for value, _, _ in expected], rel=1e-15
    )
    if tie:
        assert [pair[1:] for pair in entries] == [pair[1:] for pair in expected]


def test_a_block_with_too_many_candidates_is_computed_in_float64(in_small_blocks, monkeypatch):
    monkeypatch.setattr(module, "MAX_CANDIDATES", 4)
    for kind in ("plain", "large mean", "unlike lengths"):
        left, right = whole_numbers(kind, 5)
        expected = [value for value, _, _ in by_brute_force(left, right, 10)]
        entries = found(left, right, 10)
        assert [value for value, _, _ in entries] == expected
        assert len({place for _, *place in map(list, entries) for place in [tuple(place)]}) == 10
        assert all(float(left[row] @ right[column]) == value for value, row, column in entries)


def test_the_bound_holds_for_every_entry(in_small_blocks):
    generator = torch.Generator().manual_seed(1)
    left = torch.randn(14, 40, generator=generator, dtype=torch.float64)
    right = torch.randn(22, 40, generator=generator, dtype=torch.float64).exp()
    mean = right.mean(dim=0)
    exact = left @ (right - mean).T
    products = bounded_products.BoundedProducts(
        left, right, torch.arange(14), torch.arange(22), mean
    )
    for rows in (slice(0, 7), slice(7, 14)):
        for columns in (slice(0, 11), slice(11, 22)):
            longest = float((right - mean)[columns].norm(dim=1).max())
            block = products.product(rows, columns).double()
            for column in range(11):
                value = exact[rows, columns][:, column]
                limit = products.limit(value, left[rows].norm(dim=1), longest, rows, columns)
                assert (block[:, column] >= limit).all()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_values_that_are_not_finite_are_refused(value):
    left, right = whole_numbers("plain", 0)
    right[0, 0] = value
    with pytest.raises(NonFiniteError, match="right factor has values that are NaN or infinite"):
        largest_products(left, right, 3)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_workers_find_the_same(in_small_blocks, two_threads):
    left, right = whole_numbers("plain", 2)
    assert found(left, right, 12) == by_brute_force(left, right, 12)
    assert torch.get_num_threads() == 2


def test_an_interrupt_stops_the_workers_and_passes(two_threads):
    begun = []

    def block(item):
        begun.append(item)
        if item == 0:
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt):
        workers.run_in_workers(block, range(1000), CPU)
    assert len(begun) < 1000
    assert torch.get_num_threads() == 2
    # The interrupt may come before the pool has noted a worker, which then ends by itself.
    workers_left = [t for t in threading.enumerate() if t.name.startswith("qwen3lab-block")]
    for thread in workers_left:
        thread.join(60)
    assert not any(thread.is_alive() for thread in workers_left)


def test_the_error_of_a_worker_passes(two_threads):
    def block(item):
        if item == 3:
            raise ValueError("block 3")

    with pytest.raises(ValueError, match="block 3"):
        workers.run_in_workers(block, range(10), CPU)
    assert torch.get_num_threads() == 2
