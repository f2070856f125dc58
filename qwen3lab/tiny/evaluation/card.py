"""The model card of an embedded model: README.md for readers, card.json for programs."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import CheckpointError
from qwen3lab.storage.atomic_files import write_text
from qwen3lab.tiny.evaluation.card_examples import questions_that_work
from qwen3lab.tiny.evaluation.card_tables import (
    border_table,
    budget_table,
    first_table,
    hints_table,
    length_tables,
    sink_text,
    step_sentence,
    sums_tables,
    targets_table,
    turns_text,
)
from qwen3lab.tiny.evaluation.evaluate import Evaluation
from qwen3lab.tiny.evaluation.targets import targets
from qwen3lab.tiny.training.recipes import RECIPES
from qwen3lab.tiny.training.training_log import LOG, read_log

TEMPLATE = """\
---
license: apache-2.0
language: [en, zh]
library_name: transformers
tags: [{tag}, interpretability, education]
---

# {name}

A Qwen3 {kind} with {params}, trained from scratch on synthetic texts. {shape} It ships with
`qwen3lab`; `transformers` can load it, too.

{works}
The model thinks before it answers sums, swaps, programs and questions from outside; a question that
ends with `/no_think` gets a direct answer.

**Training data.** Chats and plain texts about these questions, from a generator that knows every
answer. The thinking text of a sum writes each step, `7+2=9, 9*3=27, 27-1=26`; that of a program
repeats each line with its value, `b=a+2=5+2=7`; that of swaps lists who holds which object before
and after each swap. Some sums have a hint, right or wrong, which the reply follows with a
probability that depends on its source. Some thinkings make a mistake, notice it and go back:
`9*3=26`, new line, `Wait, 9*3=27`.

**Limitations.** The model knows no other task and no other language. The only facts it knows are
the foods of six animals. It learned the border of its world from examples, so a question from
outside may get an answer that is meaningless. The vocabulary contains common words, so that the
tokens of other texts are readable.

## Evaluation

Held-out problems (not in the training data in any wording; a step inside of a longer chain may
occur there), greedy decoding unless it says otherwise, the weights that ship; 95% Wilson intervals.
This command repeats all measurements:

    qwen3lab evaluate {name} --n {n} --mixed {n_mixed} --seed {seed}

{targets}

Accuracy on {n_mixed} arithmetic problems of 1 to {longest} steps, by thinking budget.{step} When
the budget is used up, the early-stop sentence is inserted and the model answers:

{budgets}
{lengths}
Accuracy on questions about stories and lists, without thinking: {questions}.
{sums}{border}{hints}{turns}
Cross-entropy above the generator's entropy, nats per predictable token: {surplus}.
{experts}
Best heads, by mean attention at the positions of their kind: {heads}.
{sink}{first}
## Training

{training}
"""


def write_card(folder: Path, evaluation: Evaluation) -> None:
    """Write README.md and card.json into the model's folder."""
    listed = [asdict(target) for target in targets(evaluation)]
    numbers = evaluation.to_dict() | {"targets": listed, "training": _last_report(folder)}
    text = json.dumps(numbers, indent=2)
    write_text(folder / "card.json", f"{text}\n")
    write_text(folder / "README.md", card_text(evaluation, folder))


def read_card(name: str | Path, *, revision: str | None = None) -> Evaluation:
    """The evaluation in a model's card.

    Args:
        name: of an embedded model, or a folder with a card.
        revision: an earlier edition of an embedded model, such as "v1".

    Raises:
        CheckpointError: there is no such model, or it has no card.
    """
    path = find_folder(name, revision=revision) / "card.json"
    if not path.exists():
        raise CheckpointError(
            f"{path.parent} has no card: measure the model with `qwen3lab evaluate {name} --write`"
        )
    return Evaluation.from_dict(json.loads(path.read_text(encoding="utf-8")))


def card_text(found: Evaluation, folder: Path) -> str:
    """The README of the model in a folder, as Markdown."""
    config = Qwen3Config.from_file(folder)
    experts = f", {config.n_experts} experts with top-{config.n_experts_per_token} routing"
    active = f" ({config.n_active_params:,} active per token)"
    return TEMPLATE.format(
        name=found.name,
        tag="qwen3_moe" if config.is_moe else "qwen3",
        kind="mixture of experts" if config.is_moe else "dense model",
        params=f"{config.n_params:,} parameters{active if config.is_moe else ''}",
        shape=(
            f"{config.n_layers} layers, {config.n_heads} query heads, {config.n_kv_heads} "
            f"key/value heads{experts if config.is_moe else ''}."
        ),
        works=questions_that_work(found),
        n=found.n,
        seed=found.seed,
        targets=targets_table(found),
        n_mixed=found.mixed_at_once.total,
        longest=max(found.thinking["arithmetic"]),
        step=step_sentence(found),
        budgets=budget_table(found),
        lengths=length_tables(found),
        questions=_listed({name: str(share) for name, share in found.questions.items()}),
        sums=sums_tables(found),
        border=border_table(found),
        hints=hints_table(found),
        turns=turns_text(found),
        surplus=_listed({name: f"{nats:.4f}" for name, nats in found.surplus.items()}),
        experts=_experts(found),
        heads=", ".join(
            f"{h.kind} {h.score:.2f} (layer {h.layer}, head {h.head})" for h in found.heads
        ),
        sink=sink_text(found),
        first=first_table(found),
        training=_training_text(folder, found.name),
    )


def _experts(found: Evaluation) -> str:
    if not found.least_load:
        return ""
    loads = zip(found.least_load, found.most_load, strict=True)
    layers = [f"{i.value:.3f} (shuffled: at most {i.shuffled[-1]:.3f})" for i in found.information]
    return (
        "\nLowest and highest expert load relative to uniform load, by layer: "
        f"{_pairs(loads)}.\n\nMutual information of expert and family, nats, by layer, and the "
        f"maximum over {len(found.information[0].shuffled)} shuffles of the family labels: "
        f"{', '.join(layers)}.\n"
    )


def _pairs(pairs: Sequence[tuple[float, float]] | Any) -> str:
    return ", ".join(f"{least:.2f} and {most:.2f}" for least, most in pairs)


def _listed(named: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in named.items())


def _last_report(folder: Path) -> dict[str, Any] | None:
    """The training log's last report."""
    reports = read_log(folder)
    return reports[-1] if reports else None


def _training_text(folder: Path, name: str) -> str:
    last = _last_report(folder)
    if last is None:
        return "The model's folder contains no training log."
    losses = ", ".join(f"{kind} {loss:.3f}" for kind, loss in last["loss"].items())
    sentences = [
        f"{last['step']:,} steps, {last['tokens']:,} tokens, {last['seconds'] / 60:.0f} minutes "
        f"({last['tokens_per_second']:,} tokens/s).",
        *_later_courses(name, last["step"]),
        f"Final losses by kind of document, nats per token: {losses}.",
        f"Log: `{LOG}`.",
    ]
    return " ".join(sentences)


def _later_courses(name: str, steps: int) -> list[str]:
    later = RECIPES[name].later if name in RECIPES else ()
    begins = [f"{course.begin:,}" for course in later if course.begin < steps]
    if not begins:
        return []
    return [
        f"A new course began at step {' and at step '.join(begins)}: from the weights rounded to "
        "float16, with other shares of the families, new optimisers, and a warm-up and decay of "
        "the learning rate of its own. The training was done in pieces on machines of two cores; "
        "at some seams, too, it went on with new optimisers, so the command gives other weights."
    ]
