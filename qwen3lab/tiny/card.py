"""The card that an embedded model carries: what it is, what it was measured to do."""

import json
from pathlib import Path
from typing import Any

from qwen3lab.config import Qwen3Config
from qwen3lab.tiny.evaluate import Evaluation

TEMPLATE = """\
---
license: apache-2.0
language: [en]
library_name: transformers
tags: [qwen3_moe, interpretability, education]
---

# {name}

A Qwen3 mixture of experts of {params} parameters ({active} active per token), trained from
scratch on problems made in code. {shape} It ships inside `qwen3lab`, and opens in
`transformers` as well.

**What it knows.** Running arithmetic: a start digit, then 1 to 12 operations (add or subtract
1 to 9, times 3, 7 or 9), read from left to right, of which only the last digit is kept, as in
`Start at 7, add 5, times 3. Last digit?` or `7 + 5 * 3 = ?`. Thinking first, it writes each
running value: `7+5->2` means that 7 + 5 ends in 2. `/no_think` and `/think` work.

**What it does not know.** Everything else. It speaks no language, holds no facts, and answers
any other question with digits. Its vocabulary has common words so that text can be shown.

## Measured

On held-out problems (no model was trained on them, in any wording), greedy, with the shipped
weights; 95% Wilson intervals. Repeat with `qwen3lab evaluate {name} --seed {seed}`.

| steps | thinking | at once |
| --- | --- | --- |
{lengths}

Thinking ended by itself in {stopped} of the cases.

Accuracy over {n_mixed} problems of 1 to 12 steps, by thinking tokens allowed (a step takes six;
then the early-stop sentence is inserted and the answer follows):

| thinking tokens allowed | accuracy |
| --- | --- |
| no thinking | {at_once} |
{budgets}

Load of the experts over uniform load, least and most used, by layer: {loads}.

## Training

{training}
"""


def write_card(folder: Path, evaluation: Evaluation) -> None:
    """Write README.md and card.json into the model's folder."""
    numbers = evaluation.to_dict() | {"training": _training(folder)}
    text = json.dumps(numbers, indent=2)
    (folder / "card.json").write_text(f"{text}\n", encoding="utf-8")
    (folder / "README.md").write_text(card_text(evaluation, folder), encoding="utf-8")


def card_text(found: Evaluation, folder: Path) -> str:
    """The card of the model in a folder, as Markdown."""
    config = Qwen3Config.from_file(folder)
    pairs = zip(found.thinking.items(), found.at_once.values(), strict=True)
    budgets = [f"| {budget} | {share} |" for budget, share in found.by_budget.items()]
    loads = zip(found.least_load, found.most_load, strict=True)
    return TEMPLATE.format(
        name=found.name,
        params=f"{config.n_params:,}",
        active=f"{config.n_active_params:,}",
        shape=(
            f"{config.n_layers} layers, {config.n_heads} heads on {config.n_kv_heads} key/value "
            f"heads, {config.n_experts} experts of which {config.n_experts_per_token} are active."
        ),
        seed=found.seed,
        lengths="\n".join(
            f"| {steps} | {with_} | {without} |" for (steps, with_), without in pairs
        ),
        stopped=found.stopped,
        n_mixed=found.mixed_at_once.total,
        at_once=found.mixed_at_once,
        budgets="\n".join(budgets),
        loads=", ".join(f"{least:.2f} and {most:.2f}" for least, most in loads) or "no experts",
        training=_training_text(folder),
    )


def _training(folder: Path) -> dict[str, Any] | None:
    """The training log's last line."""
    log = folder / "training-log.jsonl"
    if not log.exists():
        return None
    return json.loads(log.read_text(encoding="utf-8").splitlines()[-1])


def _training_text(folder: Path) -> str:
    last = _training(folder)
    if last is None:
        return "There is no training log in the model's folder."
    losses = ", ".join(f"{kind} {loss:.3f}" for kind, loss in last["loss"].items())
    return (
        f"{last['step']:,} steps, {last['tokens']:,} tokens, {last['seconds'] / 60:.0f} minutes "
        f"({last['tokens_per_second']:,} tokens/s). Last losses, nats per token: {losses}. "
        "The log is in `training-log.jsonl`."
    )
