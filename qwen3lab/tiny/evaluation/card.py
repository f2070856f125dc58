"""The card that an embedded model carries: what it is, what it was measured to do."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.config.qwen3_config import Qwen3Config
from qwen3lab.errors import CheckpointError
from qwen3lab.storage.atomic_files import write_text
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

A Qwen3 {kind} of {params}, trained from scratch on a small world made in code. {shape} It ships
inside `qwen3lab`, and opens in `transformers` as well.

**What it knows.** Five kinds of text, with `/think` and `/no_think`:

- running arithmetic of which only the last digit is kept, as in `7+2*3=?` or `7加2乘3等于几？`,
  read from left to right; its thinking writes each running value in a circle, `7+2⑨*3⑦`, and
  the answer is the last, `⑦`;
- who holds what, in English and Chinese: three people, three objects, up to eight swaps; its
  thinking notes who holds what before and after each, and the answer is one such note, `Ann key`;
- small programs of assignments and calls that print one variable, last digits in circles again;
- little stories of two people and their animals, in English and Chinese, and questions on them;
- lists to look up, sequences to repeat, there and back.

**What it does not know.** Everything else. It holds no facts but what six animals eat, and answers
any other question with nonsense. Its vocabulary has common words so that text can be shown.

## Measured

On held-out texts (the model was trained on none of their problems, in any wording), greedy, with
the shipped weights; 95% Wilson intervals. Repeat with `qwen3lab evaluate {name} --seed {seed}`.

| behaviour | measure | found | target | met |
| --- | --- | --- | --- | --- |
{targets}

Accuracy on {n_mixed} problems of arithmetic, 1 to 12 steps, by thinking tokens allowed (a step
takes three; then the early-stop sentence is inserted and the answer follows):

| thinking tokens allowed | accuracy |
| --- | --- |
| no thinking | {at_once} |
{budgets}
{lengths}
Questions on stories and lists, answered at once: {questions}.

Cross-entropy above the generator's own entropy, nats per predictable token: {surplus}.
{experts}
Heads, by mean attention where their kind attends: {heads}.

## Training

{training}
"""


def write_card(folder: Path, evaluation: Evaluation) -> None:
    """Write README.md and card.json into the model's folder."""
    found = [asdict(target) | {"met": target.met} for target in targets(evaluation)]
    numbers = evaluation.to_dict() | {"targets": found, "training": _training(folder)}
    text = json.dumps(numbers, indent=2)
    write_text(folder / "card.json", f"{text}\n")
    write_text(folder / "README.md", card_text(evaluation, folder))


def read_card(name: str | Path) -> Evaluation:
    """What a model's card says was measured.

    Args:
        name: of an embedded model, or a folder that `qwen3lab evaluate --write` was run on.

    Raises:
        CheckpointError: there is no such model, or it has no card.
    """
    path = find_folder(name) / "card.json"
    if not path.exists():
        raise CheckpointError(
            f"{path.parent} has no card: measure the model with `qwen3lab evaluate {name} --write`"
        )
    return Evaluation.from_dict(json.loads(path.read_text(encoding="utf-8")))


def card_text(found: Evaluation, folder: Path) -> str:
    """The card of the model in a folder, as Markdown."""
    config = Qwen3Config.from_file(folder)
    rows = [
        f"| {t.behaviour} | {t.measure} | {t.found} | {t.target} | {'yes' if t.met else 'no'} |"
        for t in targets(found)
    ]
    experts = f", {config.n_experts} experts of which {config.n_experts_per_token} are active"
    active = f" ({config.n_active_params:,} active per token)"
    return TEMPLATE.format(
        name=found.name,
        tag="qwen3_moe" if config.is_moe else "qwen3",
        kind="mixture of experts" if config.is_moe else "dense model",
        params=f"{config.n_params:,} parameters{active if config.is_moe else ''}",
        shape=(
            f"{config.n_layers} layers, {config.n_heads} heads on {config.n_kv_heads} key/value "
            f"heads{experts if config.is_moe else ''}."
        ),
        seed=found.seed,
        targets="\n".join(rows),
        n_mixed=found.mixed_at_once.total,
        at_once=found.mixed_at_once,
        budgets="\n".join(f"| {budget} | {share} |" for budget, share in found.by_budget.items()),
        lengths="".join(_lengths(found, family) for family in found.thinking),
        questions=_listed({name: str(share) for name, share in found.questions.items()}),
        surplus=_listed({name: f"{nats:.4f}" for name, nats in found.surplus.items()}),
        experts=_experts(found),
        heads=", ".join(
            f"{h.kind} {h.score:.2f} (layer {h.layer}, head {h.head})" for h in found.heads
        ),
        training=_training_text(folder, found.name),
    )


def _lengths(found: Evaluation, family: str) -> str:
    """One family's accuracy by steps, thinking and at once."""
    pairs = zip(found.thinking[family].items(), found.at_once[family].values(), strict=True)
    rows = "\n".join(f"| {steps} | {with_} | {without} |" for (steps, with_), without in pairs)
    return f"\n| {family}: steps | thinking | at once |\n| --- | --- | --- |\n{rows}\n"


def _experts(found: Evaluation) -> str:
    if not found.least_load:
        return ""
    loads = zip(found.least_load, found.most_load, strict=True)
    said = [f"{layer.value:.3f} (at most {layer.shuffled[-1]:.3f})" for layer in found.information]
    return (
        "\nLoad of the experts over uniform load, least and most used, by layer: "
        f"{_pairs(loads)}.\n\nMutual information of expert and family, nats, by layer, and the "
        f"most of {len(found.information[0].shuffled)} shuffles of the texts' families: "
        f"{', '.join(said)}.\n"
    )


def _pairs(pairs: Sequence[tuple[float, float]] | Any) -> str:
    return ", ".join(f"{least:.2f} and {most:.2f}" for least, most in pairs)


def _listed(named: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in named.items())


def _training(folder: Path) -> dict[str, Any] | None:
    """The training log's last report."""
    reports = read_log(folder)
    return reports[-1] if reports else None


def _training_text(folder: Path, name: str) -> str:
    last = _training(folder)
    if last is None:
        return "There is no training log in the model's folder."
    losses = ", ".join(f"{kind} {loss:.3f}" for kind, loss in last["loss"].items())
    said = [
        f"{last['step']:,} steps, {last['tokens']:,} tokens, {last['seconds'] / 60:.0f} minutes "
        f"({last['tokens_per_second']:,} tokens/s).",
        *_second_course(name, last["step"]),
        f"Last losses, nats per token: {losses}.",
        f"The log is in `{LOG}`.",
    ]
    return " ".join(said)


def _second_course(name: str, steps: int) -> list[str]:
    later = RECIPES[name].later if name in RECIPES else None
    if later is None or steps <= later.begin:
        return []
    return [
        f"The last {steps - later.begin:,} are a second course: from the weights rounded to half "
        "precision, with the families in other shares and a learning rate that rises once more."
    ]
