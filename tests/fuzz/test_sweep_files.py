"""Files of sweeps that are cut, doubled, merged, reordered, written by two, or wrong in a field.

Reading gives exactly the results whose lines are intact, or a refusal. Resuming ends in the results
of a sweep that was never interrupted, or a refusal; a refused file does not change.
"""

import dataclasses
import json
import zlib

import pytest
from hypothesis import given, strategies as st

import qwen3lab
from qwen3lab import Sampling, thinking, tiny
from qwen3lab.storage.jsonl_store import Store
from qwen3lab.thinking import Attempt, Sweep
from qwen3lab.thinking.swept import SweepPlan
from tests.fuzz.cases import fuzz, refusable
from tests.fuzz.mutations import byte_mutations, json_mutations

BUDGETS = (0, 3)
CHECK = ', "crc32": "'
# Fields of an attempt that may be absent, with their values.
DEFAULTS = {"at_once": None, "right_at_once": None, "prompt_tokens_at_once": 0}


class Run:
    """A sweep of two problems with two samples, run once: its file, its results, and how it ran."""

    def __init__(self, lab, path, **options):
        self.lab, self.problems = lab, tiny.problems("arithmetic", n=2, steps=2)
        self.options = {"samples": 2, "answer_tokens": 4, "batch": 2, "progress": False, **options}
        self.sweep = self.to(path)
        self.data = path.read_bytes()
        self.lines = self.data.split(b"\n")[:-1]
        assert len(self.lines) == 5
        self.plan = Store(path, SweepPlan, Attempt).plan()
        results = Store(path, SweepPlan, Attempt).results()
        self.by_line = dict(zip(self.lines[1:], results, strict=True))

    def to(self, path):
        return thinking.sweep(self.lab, self.problems, BUDGETS, path=path, **self.options)


@pytest.fixture(scope="module")
def lab():
    return qwen3lab.load("tiny-dense", device="cpu")


@pytest.fixture(scope="module")
def runs(lab, tmp_path_factory):
    """A run, and three others: another seed, other sampling, and no direct answers."""
    folder = tmp_path_factory.mktemp("runs")
    options = [{}, {"seed": 9}, {"sampling": Sampling.greedy()}, {"at_once": False}]
    return [Run(lab, folder / f"{i}.jsonl", **each) for i, each in enumerate(options)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("cases") / "sweep.jsonl"


def without_checksums(data):
    """The file as an earlier version wrote it."""
    lines = [line.rpartition(CHECK.encode())[0] + b"}" for line in data.split(b"\n")[:-1]]
    return b"".join(line + b"\n" for line in lines)


def check_reading(path, run):
    """The results in the file are those of its intact lines, or it is refused."""
    lines = path.read_bytes().split(b"\n")[:-1]
    with refusable() as outcome:
        outcome.value = Sweep.load(path)
    if outcome.refusal is None:
        assert lines[0].removesuffix(b"\r") == run.lines[0]
        intact = {line.removesuffix(b"\r") for line in lines[1:]} - {run.lines[0]}
        assert intact <= run.by_line.keys()
        found = set(outcome.value.attempts)
        assert found == {run.by_line[line] for line in intact}
        assert len(found) == len(outcome.value.attempts)
    return outcome


def check_resuming(path, run):
    """A store resumes with what reading gives, or refuses and leaves the file as it is."""
    before = path.read_bytes()
    store = Store(path, SweepPlan, Attempt)
    with refusable() as outcome:
        outcome.value = store.resume(run.plan)
    after = path.read_bytes()
    if outcome.refusal is not None:
        assert after == before
    elif run.lines[0].startswith(before):
        assert (outcome.value, after) == ([], run.lines[0] + b"\n")
    else:
        assert after == before[: before.rindex(b"\n") + 1]
        missing = [each for each in run.by_line.values() if each not in outcome.value]
        store.add(missing)
        assert set(store.results()) == set(run.by_line.values())
    return outcome


@fuzz("sweep_files", 0.3)
@given(change=byte_mutations(), which=st.integers(0, 3))
def test_files_with_other_bytes(runs, path, change, which):
    path.write_bytes(change(runs[which].data))
    read = check_reading(path, runs[which])
    resumed = check_resuming(path, runs[which])
    if read.refusal is None:
        assert set(resumed.value) == set(read.value.attempts)


@st.composite
def edited_lines(draw, own, other):
    """Lines of a file in another order, missing, repeated, cut, joined, or of another run."""
    lines = list(own)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["drop", "repeat", "shuffle", "foreign", "cut", "join", "cr"]))
        at = draw(st.integers(0, max(len(lines) - 1, 0)))
        if kind == "shuffle":
            head = lines[:1]
            lines = head + draw(st.permutations(lines[1:]))
        elif kind == "foreign":
            lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(other)))
        elif not lines:
            break
        elif kind == "drop":
            del lines[at]
        elif kind == "repeat":
            lines.insert(draw(st.integers(1, len(lines))), lines[at])
        elif kind == "cut":
            lines[at] = lines[at][: draw(st.integers(0, len(lines[at])))]
        elif kind == "join":
            lines[at : at + 2] = [b"".join(lines[at : at + 2])]
        else:
            lines[at] += b"\r"
    end = draw(st.sampled_from([b"\n", b"\n", b"", b"\n\n", b"\n{"]))
    return b"\n".join(lines) + end


@fuzz("sweep_files", 0.25)
@given(data=st.data(), pair=st.permutations(range(4)))
def test_files_with_other_lines(runs, path, data, pair):
    run, other = runs[pair[0]], runs[pair[1]]
    path.write_bytes(data.draw(edited_lines(run.lines, other.lines)))
    check_reading(path, run)
    check_resuming(path, run)


@fuzz("sweep_files", 0.15)
@given(data=st.data(), same=st.booleans())
def test_files_of_two_writers(runs, path, data, same):
    """Pieces of the results of two runs in turn, of whole lines or of some bytes each."""
    run, other = runs[0], runs[0 if same else 1]
    by_line = data.draw(st.booleans())
    streams = [
        lines if by_line else [bytes([byte]) for byte in b"".join(lines)]
        for lines in ([line + b"\n" for line in each.lines[1:]] for each in (run, other))
    ]
    written = run.lines[0] + b"\n"
    while any(streams):
        length = data.draw(st.integers(1, 4 if by_line else 4000))
        stream = streams.pop(0)
        written += b"".join(stream[:length])
        streams.append(stream[length:])
    path.write_bytes(written)
    outcome = check_reading(path, run)
    assert outcome.refusal is None or not (by_line and same)
    check_resuming(path, run)


@fuzz("sweep_files", 0.2)
@given(data=st.data(), which=st.integers(0, 3), checked=st.booleans())
def test_files_with_other_values_in_a_field(runs, path, data, which, checked):
    """A program other than the lab wrote the line, with a right checksum or without any."""
    run = runs[which]
    lines = run.lines if checked else without_checksums(run.data).split(b"\n")[:-1]
    start = int(run.lines[0][-10:-2], 16)
    at = data.draw(st.integers(1, 4))
    changed = data.draw(json_mutations(drop_check(json.loads(lines[at]))))
    text = json.dumps(changed)
    if checked:
        text = f'{text[:-1]}{CHECK}{zlib.crc32(text.encode(), start):08x}"}}'
    path.write_bytes(b"\n".join([*lines[:at], text.encode(), *lines[at + 1 :], b""]))
    with refusable() as outcome:
        outcome.value = Sweep.load(path)
    if outcome.refusal is None:
        found = [json.loads(json.dumps(dataclasses.asdict(a))) for a in outcome.value.attempts]
        others = [drop_check(json.loads(line)) for n, line in enumerate(lines) if n not in (0, at)]
        expected = {as_text(DEFAULTS | each) for each in [*others, changed]}
        assert {as_text(each) for each in found} == expected


def drop_check(fields):
    return {name: value for name, value in fields.items() if name != "crc32"}


def as_text(fields):
    return json.dumps(fields, sort_keys=True)


@fuzz("sweep_files", 0.07)
@given(data=st.data(), which=st.integers(0, 3))
def test_plans_with_other_values_in_a_field(runs, path, data, which):
    """A plan is read as it stands, without a conversion, or refused; it is never resumed."""
    run = runs[which]
    first, *rest = without_checksums(run.data).split(b"\n")
    changed = data.draw(json_mutations(json.loads(first)))
    path.write_bytes(b"\n".join([json.dumps(changed).encode(), *rest]))
    with refusable() as outcome:
        outcome.value = Store(path, SweepPlan, Attempt).plan()
    if outcome.refusal is None:
        found = outcome.value
        for name in ("model", "problems", "n_problems", "samples", "seed", "answer_tokens"):
            assert as_text(getattr(found, name)) == as_text(changed[name])
        assert list(found.budgets) == changed["budgets"]
    check_resuming(path, run)


@fuzz("sweep_files", 0.03)
@given(place=st.floats(0, 1), which=st.integers(0, 1))
def test_resuming_after_any_cut_ends_in_the_same_results(runs, path, place, which):
    run = runs[which]
    path.write_bytes(run.data[: int(place * len(run.data))])
    with refusable() as outcome:
        outcome.value = run.to(path)
    assert outcome.refusal is None
    assert outcome.value.attempts == run.sweep.attempts
    assert sorted(path.read_bytes().split(b"\n")) == sorted(run.data.split(b"\n"))
