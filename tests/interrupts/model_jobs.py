"""Rows of the table: recordings in memory, loading, experiments, training in memory."""

import random
import shutil
from typing import Any

import huggingface_hub
from tqdm.auto import tqdm

import qwen3lab
from qwen3lab import Sampling, thinking, tiny
from qwen3lab.analysis.circuits import copying_scores, qk_pairs
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.checkpoints.embedded import EMBEDDED
from qwen3lab.experiments.effects import Text, error_rates
from qwen3lab.experiments.fidelity import fidelity
from qwen3lab.experiments.knockout import knock_out
from qwen3lab.tiny.evaluation import internals
from qwen3lab.tiny.evaluation.accuracy import accuracy, held_out
from tests.interrupts.state import plain
from tests.interrupts.table import NOTHING, QUESTION, RAISED, Job, World

OPTIONS: dict[str, Any] = {"device": "cpu", "dtype": "float32"}


def _recordings(world: World) -> dict[str, Any]:
    return {text: world.lab.record(text) for text in ("3+4=?", QUESTION, "1+1=?")}


def _sums(corpus: RoutingCorpus) -> list[Any]:
    names = ("groups", "slots", "weights", "entropy", "tokens")
    return [plain(getattr(corpus, name)) for name in names]


def _count(world: World) -> list[Any]:
    """Count recordings into a corpus, which is there after the interrupt, and merge it."""
    corpus = world.made["corpus"] = RoutingCorpus(world.lab.config)
    other = world.made["other"] = RoutingCorpus(world.lab.config)
    for text, recording in world.made["corpus recording"].items():
        corpus.add(recording, text)
    other.merge(corpus)
    return _sums(corpus)


def _check_corpus(world: World, whole: list[Any], value: object) -> None:
    """Each recording was counted as a whole or not at all, and so was the other corpus."""
    wanted = RoutingCorpus(world.lab.config)
    states = [_sums(wanted)]
    for text, recording in world.made["corpus recording"].items():
        wanted.add(recording, text)
        states.append(_sums(wanted))
    assert _sums(world.made["corpus"]) in states
    assert _sums(world.made["other"]) in (states[0], states[-1])


def _thought(world: World) -> Any:
    (problem,) = tiny.problems("arithmetic", n=1, steps=3, seed=2)
    return world.lab.chat(problem.question, sampling=Sampling.greedy())


def _importance(world: World) -> Any:
    return thinking.importance(
        world.lab,
        world.made["importance"],
        every=12,
        how="resample",
        samples=2,
        seed=3,
        max_new_tokens=6,
        progress=False,
    )


def _convergence(world: World) -> Any:
    chat = world.made["convergence"]
    return thinking.convergence(world.lab, chat, every=6, answer_tokens=4, progress=False)


def _knocked_out(world: World) -> Any:
    texts = [Text(text, world.lab.token_ids(text)) for text in ("3+4=?", QUESTION)]
    return knock_out(world.lab, texts, layers=[world.lab.config.moe_layers[0]], progress=False)


def _check_knocked_out(world: World, whole: Any, value: Any) -> None:
    """The experts that were done have the values of a whole run."""
    if value is not None:
        done = value.added.isnan().logical_not()
        assert plain(value.added[done]) == plain(whole.added[done])
        assert plain((value.base, value.load)) == plain((whole.base, whole.load))


def _errors(world: World) -> Any:
    problems = {"chains": tiny.problems("arithmetic", n=2, steps=2, seed=3)}
    return error_rates(world.lab, problems, max_new_tokens=12)


def _evaluated(world: World) -> Any:
    """What `evaluate` does for each family and number of steps; all of them take minutes."""
    problems = held_out("arithmetic", n=2, steps=2, rng=random.Random(1))
    texts = internals.read(world.lab, n=1, seed=1, families=["arithmetic"])
    bar = tqdm(disable=True)
    share, replies = accuracy(world.lab, problems, bar, thinking=True)
    return share, replies, internals.surplus(texts)


def _downloaded(world: World) -> Any:
    """Load from a hub that copies the files of a folder, each under its name when it is whole."""

    def snapshot_download(hub_id: str, *, revision: Any, allow_patterns: Any) -> str:
        local = world.folder / "local"
        local.mkdir(exist_ok=True)
        for file in (EMBEDDED / "tiny-moe").iterdir():
            if file.is_file() and not (local / file.name).exists():
                begun = local / f"{file.name}.incomplete"
                shutil.copyfile(file, begun)
                begun.rename(local / file.name)
        return str(local)

    original = huggingface_hub.snapshot_download
    huggingface_hub.snapshot_download = snapshot_download
    try:
        return qwen3lab.load("someone/tiny-moe", **OPTIONS).record(QUESTION).logits
    finally:
        huggingface_hub.snapshot_download = original


MODEL_JOBS = [
    Job(
        "record",
        RAISED,
        NOTHING,
        lambda world: world.lab.record(QUESTION, capture="blocks.*.hook_resid_post"),
    ),
    Job(
        "record_batch",
        RAISED,
        NOTHING,
        lambda world: world.lab.record_batch([QUESTION, "1+1=?"], capture="all"),
    ),
    Job(
        "streamed model",
        f"{RAISED}; its cache keeps as many bytes as before",
        NOTHING,
        lambda world: world.streamed.record_batch([QUESTION, "1+1=?"]),
        kept=lambda world, whole, value: check_cache(world),
        labs=("lab", "streamed"),
        share=4,
    ),
    Job(
        "load",
        RAISED,
        NOTHING,
        lambda world: qwen3lab.load("tiny-moe", **OPTIONS).record("3+4=?").logits,
    ),
    Job(
        "quantise",
        RAISED,
        NOTHING,
        lambda world: qwen3lab.load("tiny-moe", device="cpu", quantise="int8").record("3").logits,
        share=1,
    ),
    Job(
        "download",
        "KeyboardInterrupt; the same call fetches what is missing",
        "the same call in a new process fetches what is missing",
        _downloaded,
        share=1,
    ),
    Job("importance", RAISED, NOTHING, _importance, prepare=_thought),
    Job("convergence", RAISED, NOTHING, _convergence, prepare=_thought),
    Job(
        "knock-out",
        "the losses without the experts that were done come back; KeyboardInterrupt only before "
        "the first; the same call gives the same values",
        NOTHING,
        _knocked_out,
        kept=_check_knocked_out,
    ),
    Job("error rates", RAISED, NOTHING, _errors),
    Job(
        "fidelity",
        RAISED,
        NOTHING,
        lambda world: fidelity(world.lab, world.streamed, [QUESTION]),
        labs=("lab", "streamed"),
        share=1,
    ),
    Job("circuits", RAISED, NOTHING, lambda world: copying_scores(world.lab), share=1),
    Job("pairs", RAISED, NOTHING, lambda world: qk_pairs(world.lab, 0, 0).value, share=1),
    Job(
        "corpus recording",
        "each recording was counted as a whole or not at all",
        NOTHING,
        _count,
        prepare=_recordings,
        kept=_check_corpus,
        share=4,
    ),
    Job("evaluate", RAISED, NOTHING, _evaluated, share=1),
]


def check_cache(world: World) -> None:
    """The weight cache counts no unit as in use, and its bytes are those of the kept units."""
    cache: Any = world.streamed.model.blocks.weight_cache
    assert not any(cache._in_use.values()), "units stay in use"
    kept = {key: future.result() for key, future in cache._kept.items()}
    n_bytes = sum(value.nbytes for unit in kept.values() for value in unit.values())
    assert n_bytes == cache.kept_bytes, (n_bytes, cache.kept_bytes)
    counted = {key for usage in cache._usage.values() for _, key in usage._kept}
    assert counted == set(kept), "units that are kept and not counted, or the other way round"
    buffers = [each for free in cache._free_buffers.values() for each in free]
    places = [value.data_ptr() for unit in (*kept.values(), *buffers) for value in unit.values()]
    assert len(places) == len(set(places)), "a buffer is used twice"
