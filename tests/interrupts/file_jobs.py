"""Rows of the table: what writes files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen3lab import figures, thinking, tiny
from qwen3lab.analysis.corpus import RoutingCorpus
from qwen3lab.checkpoints.writer import save_checkpoint
from qwen3lab.jupyter import working_copy
from qwen3lab.tiny.training.trainer import Trainer
from tests.interrupts.state import content, contents, plain
from tests.interrupts.table import QUESTION, Job, World
from tests.tiny.training.test_trainer import STOP, micro

OLD_OR_NEW = "the file is the old one or the whole new one"
BESIDE = f"{OLD_OR_NEW}; a temporary file may stay beside it, and the next write replaces that"


def _recorded(world: World) -> Any:
    return world.lab.record_to_disk(
        ["3+4=?", QUESTION],
        world.folder / "recorded",
        capture="blocks.*.attn.hook_z",
        progress=False,
    )


def _problems(world: World) -> Any:
    return tiny.chains(world.lab.tokenizer, n=2, steps=(2, 3), seed=4)


def _swept(world: World, path: Path | None = None) -> Any:
    return thinking.sweep(
        world.lab,
        world.made["sweep" if path is None else "sweep to a file"],
        budgets=(0, 4),
        path=path,
        batch=2,
        answer_tokens=6,
        progress=False,
    )


def _check_sweep(world: World, whole: Any, value: Any) -> None:
    path = world.folder / "sweep.jsonl"
    if value is None and path.exists() and not world.killed:
        assert path.read_bytes().count(b"\n") == 1, "finished problems, and no sweep came back"
    by_row = {(each.problem, each.sample): each for each in whole.attempts}
    for each in value.attempts if value is not None else ():
        assert plain(each) == plain(by_row[each.problem, each.sample])


def _trainer(world: World) -> Trainer:
    recipe = micro(steps=3, muon=True, early=(2,), batch_tokens=256)
    return Trainer(recipe, world.lab.tokenizer, STOP, world.folder / "run")


def _trained(world: World) -> Any:
    trainer = world.made["trainer"] = _trainer(world)
    trainer.run(progress=False)
    weights = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    return trainer.step, trainer.tokens, weights


def _check_trained(world: World, whole: Any, value: Any) -> None:
    """The trainer that was interrupted goes on, too."""
    trainer = world.made.pop("trainer", None)
    if trainer is not None:
        for _ in trainer.steps():
            pass
        found = trainer.step, trainer.tokens, dict(trainer.model.state_dict())
        assert plain(found) == plain(whole)


def _early_weights(folder: Path) -> dict[str, Any]:
    """All that a run writes but what holds times."""
    return contents(folder / "run", but=("run.safetensors", "training-log.jsonl"))


def _overwriting(
    name: str,
    file: str,
    write: Callable[[World, Path], object],
    prepare: Callable[[World], Any] | None = None,
) -> Job:
    """A job that overwrites a file; its value is the file's bytes."""

    def put_old_file(world: World) -> None:
        (world.folder / file).parent.mkdir(exist_ok=True)
        (world.folder / file).write_bytes(b"old")

    def run(world: World) -> Any:
        write(world, world.folder / file)
        return content(world.folder / file)

    def old_or_new(world: World, whole: Any, value: object) -> None:
        assert content(world.folder / file) in (b"old", whole)

    return Job(
        name,
        OLD_OR_NEW,
        BESIDE,
        run,
        prepare=prepare,
        before=put_old_file,
        kept=old_or_new,
        survives=True,
    )


def _corpus(world: World) -> RoutingCorpus:
    corpus = RoutingCorpus(world.lab.config)
    corpus.add(world.lab.record(QUESTION), "one")
    return corpus


def _notebooks(world: World) -> dict[str, Any]:
    """Copy the notebooks of an installed package."""
    package = world.folder / "site" / "qwen3lab"
    file = working_copy.qwen3lab.__file__
    working_copy.qwen3lab.__file__ = str(package / "__init__.py")
    try:
        return contents(working_copy.make_working_copy(world.folder / "mine"))
    finally:
        working_copy.qwen3lab.__file__ = file


def _install_notebooks(world: World) -> None:
    texts = {working_copy.FIRST_NOTEBOOK: '{"metadata": {}}', "guide/index.md": "as it ships"}
    for name, text in texts.items():
        path = world.folder / "site/qwen3lab/_notebooks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _check_notebooks(world: World, whole: dict[str, Any], value: object) -> None:
    target = world.folder / "mine"
    for name, found in contents(target).items() if target.exists() else ():
        assert found == whole[name]


FILE_JOBS = [
    Job(
        "record_to_disk",
        "finished layers are kept; the same call goes on after them, to the same values",
        "the same call in a new process goes on after the finished layers, to the same values",
        _recorded,
        files=lambda folder: contents(folder / "recorded"),
        share=5,
        survives=True,
    ),
    Job(
        "sweep",
        "a sweep of the finished problems comes back; KeyboardInterrupt only before the first",
        "nothing was on the disk",
        _swept,
        prepare=_problems,
        kept=_check_sweep,
    ),
    Job(
        "sweep to a file",
        "a sweep of the finished problems comes back; the same call runs the others, to the same "
        "bytes; KeyboardInterrupt only before the first batch",
        "the same call in a new process runs the problems that are not in the file, to the same "
        "bytes",
        lambda world: _swept(world, world.folder / "sweep.jsonl"),
        prepare=_problems,
        kept=_check_sweep,
        files=contents,
        share=5,
        survives=True,
    ),
    Job(
        "training",
        "a step that was begun is undone and the run is saved; this trainer and a new one go on "
        "to the same weights",
        "a new trainer goes on from the last saved step to the same weights",
        _trained,
        kept=_check_trained,
        files=_early_weights,
        share=5,
        survives=True,
    ),
    _overwriting(
        "save_checkpoint",
        "saved/model.safetensors",
        lambda world, path: save_checkpoint(world.lab.model, path.parent),
    ),
    _overwriting(
        "Recording.save",
        "run.safetensors",
        lambda world, path: world.made["Recording.save"].save(path),
        prepare=lambda world: world.lab.record(QUESTION),
    ),
    _overwriting(
        "RoutingCorpus.save",
        "counts.safetensors",
        lambda world, path: world.made["RoutingCorpus.save"].save(path),
        prepare=_corpus,
    ),
    _overwriting(
        "figure export",
        "figure.html",
        lambda world, path: figures.save(world.made["figure export"], path),
        prepare=lambda world: figures.attention_map(world.lab.record(QUESTION).attention[0, 0]),
    ),
    Job(
        "copy of the notebooks",
        "each notebook is whole or absent; the next start copies the absent ones",
        "each notebook is whole or absent; the next start copies the absent ones",
        _notebooks,
        before=_install_notebooks,
        kept=_check_notebooks,
        survives=True,
    ),
]
