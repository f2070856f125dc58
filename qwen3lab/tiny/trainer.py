"""Trains an embedded model from scratch with the package's own forward pass.

A batch is a pure function of seed and step, so a run that was interrupted goes on exactly
where it stood, and the same seed on the same machine gives the same weights.
"""

import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.hooks import Keep
from qwen3lab.model import Qwen3
from qwen3lab.tiny.documents import Writer
from qwen3lab.tiny.recipes import Recipe

SAVE_EVERY = 500
LOG_EVERY = 50


@dataclass(frozen=True)
class Batch:
    """Rows of documents, one after another.

    A document may look at those before it in its row, as in the pretraining of large models;
    it learns to disregard them.
    """

    token_ids: Int[Tensor, "row pos"]
    weights: Float[Tensor, "row pos"]
    kinds: Int[Tensor, "row pos"]


class Packer:
    """Packs whole documents into rows, so that little is padding and nothing is cut.

    `kinds` collects the names of the documents' kinds; a batch refers to them by number.
    """

    def __init__(self, writer: Writer, recipe: Recipe) -> None:
        self.writer, self.recipe = writer, recipe
        self.kinds: list[str] = []

    def batch(self, step: int) -> Batch:
        """The batch of a step."""
        rng = random.Random(f"{self.recipe.seed}:{step}")
        shape = (self.recipe.rows, self.recipe.row_tokens)
        ids, kinds = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        weights = torch.zeros(shape)
        for row in range(shape[0]):
            at = 0
            while True:
                document = self.writer.write(rng)
                end = at + len(document.token_ids)
                if end > shape[1]:
                    break
                ids[row, at:end] = torch.tensor(document.token_ids)
                weights[row, at:end] = torch.tensor(document.weights)
                kinds[row, at:end] = self._number(document.kind)
                at = end
        return Batch(ids, weights, kinds)

    def _number(self, kind: str) -> int:
        if kind not in self.kinds:
            self.kinds.append(kind)
        return self.kinds.index(kind)


def balance_loss(
    logits: Float[Tensor, "token expert"], experts: Int[Tensor, "token k"]
) -> Float[Tensor, ""]:
    """Experts times the product of each one's share of slots and mean probability, summed.

    1 where the load is uniform. Over all tokens of the batch, as Qwen3 does.

    Source: Switch Transformer (arXiv 2101.03961), equation 4; over the global batch:
    arXiv 2501.11873.
    """
    n_experts = logits.shape[-1]
    share = torch.bincount(experts.flatten(), minlength=n_experts) / experts.numel()
    return n_experts * (share * logits.softmax(dim=-1, dtype=torch.float32).mean(dim=0)).sum()


class Trainer:
    """One training run in a folder: weights, optimiser state and log live there.

    Args:
        recipe: what to train.
        tokenizer: opened from the folder.
        early_stop: the sentence that cuts a thinking.
        folder: of the run; one that holds an unfinished run of the same recipe is resumed.
        device: where to train.

    Raises:
        ValueError: the folder holds a run of another recipe.
    """

    def __init__(
        self, recipe: Recipe, tokenizer: Any, early_stop: str, folder: Path, device: str = "cpu"
    ) -> None:
        self.recipe, self.folder, self.device = recipe, folder, device
        self.packer = Packer(Writer(tokenizer, early_stop, max_steps=recipe.max_steps), recipe)
        self.model = Qwen3(recipe.config)
        self.model.init_weights(torch.Generator().manual_seed(recipe.seed))
        self.model.to(device).train()
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        norms = [p for p in self.model.parameters() if p.ndim == 1]
        groups = [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": norms, "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(
            groups, lr=recipe.learning_rate, betas=(0.9, 0.95), fused=True
        )
        self.step, self.seconds = 0, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def run(self, *, minutes: float | None = None, progress: bool = True) -> None:
        """Train to the end, or until the minutes are up; an interrupt saves where it stands.

        With `minutes` the learning rate falls by the clock, so the weights depend on the
        machine's speed.
        """
        bar = tqdm(total=self.recipe.steps, initial=self.step, disable=not progress, unit="step")
        try:
            for report in self._steps(minutes):
                bar.update()
                if report:
                    bar.set_postfix_str(_summary(report))
        finally:
            self.save()
            bar.close()

    def _steps(self, minutes: float | None) -> Iterator[dict[str, Any] | None]:
        sums: dict[str, list[float]] = {}
        started, before = time.monotonic(), self.seconds
        while self.step < self.recipe.steps:
            self.seconds = before + time.monotonic() - started
            spent = self.seconds / (minutes * 60) if minutes else 0.0
            if spent >= 1:
                return
            self._one_step(max(self.step / self.recipe.steps, spent), sums)
            self.step += 1
            if self.step % SAVE_EVERY == 0 or _is_milestone(self.step):
                self.save()
            yield self._log(sums) if self.step % LOG_EVERY == 0 else None

    def _one_step(self, progress: float, sums: dict[str, list[float]]) -> None:
        warm = min(1.0, (self.step + 1) / self.recipe.warmup)
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.learning_rate * warm * cosine
        batch = self.packer.batch(self.step)
        loss = self._loss(batch, sums)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _loss(self, batch: Batch, sums: dict[str, list[float]]) -> Float[Tensor, ""]:
        """Weighted cross-entropy, plus the load-balancing loss averaged over layers."""
        routed = _Routed()
        ids, weights = batch.token_ids.to(self.device), batch.weights[:, 1:].to(self.device)
        logits = self.model(ids, tap=routed)[:, :-1]
        losses = F.cross_entropy(logits.transpose(1, 2).float(), ids[:, 1:], reduction="none")
        for number, kind in enumerate(self.packer.kinds):
            chosen = (batch.kinds[:, 1:] == number) & (batch.weights[:, 1:] == 1)
            found = sums.setdefault(kind, [0.0, 0.0])
            found[0] += float(losses.detach()[chosen].sum())
            found[1] += float(chosen.sum())
        loss = (losses * weights).sum() / weights.sum()
        balances = [balance_loss(logits, experts) for logits, experts in routed.layers()]
        if balances:
            balance = torch.stack(balances).mean()
            sums.setdefault("balance", [0.0, 0.0])[0] += float(balance.detach())
            sums["balance"][1] += 1.0
            loss = loss + self.recipe.balance * balance
        return loss

    def _log(self, sums: dict[str, list[float]]) -> dict[str, Any]:
        """Append a line to the log: mean loss per kind in nats per token, and speed."""
        tokens = self.step * self.recipe.rows * self.recipe.row_tokens
        report = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "tokens": tokens,
            "tokens_per_second": round(tokens / max(self.seconds, 1e-9)),
            "loss": {kind: round(s / max(n, 1), 4) for kind, (s, n) in sorted(sums.items())},
        }
        sums.clear()
        with (self.folder / "training-log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(report) + "\n")
        return report

    def save(self) -> None:
        """Write weights, optimiser state and step, so that the run can go on."""
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                state[f"{key}.{name}"] = value
        about = {"recipe": _fields(self.recipe), "step": self.step, "seconds": self.seconds}
        save_file(state, self.folder / "run.part", metadata={"run": json.dumps(about)})
        (self.folder / "run.part").replace(self.folder / "run.safetensors")
        if _is_milestone(self.step):
            weights = {n.removeprefix("model."): t for n, t in state.items() if n[:5] == "model"}
            save_file(weights, self.folder / f"weights-{self.step:06d}.safetensors")

    def _resume(self) -> None:
        path = self.folder / "run.safetensors"
        if not path.exists():
            return
        about = _about(path)
        if about["recipe"] != _fields(self.recipe):
            raise ValueError(
                f"{self.folder} holds a run of another recipe: choose another folder, "
                "or remove it to begin anew"
            )
        state = load_file(path, device=self.device)
        weights = {n[6:]: tensor for n, tensor in state.items() if n.startswith("model.")}
        self.model.load_state_dict(weights)
        for name, parameter in self.model.named_parameters():
            if f"step.{name}" in state:
                self.optimizer.state[parameter] = {
                    key: state[f"{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
                }
        self.step, self.seconds = about["step"], about["seconds"]


class _Routed(Keep):
    """Keeps routing with its gradient, which an ordinary tap lets go."""

    def __init__(self) -> None:
        super().__init__(())

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if name.endswith(("hook_router_logits", "hook_expert_indices")):
            self.kept[name] = value.flatten(0, 1)
        return value

    def layers(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Router logits and chosen experts, layer by layer."""
        for name, logits in self.kept.items():
            if name.endswith("hook_router_logits"):
                yield logits, self.kept[name.replace("router_logits", "expert_indices")]


def _is_milestone(step: int) -> bool:
    """Log-spaced steps of which the weights are kept: 125, 250, 500, 1000, ..."""
    return step >= 125 and (step // 125).bit_count() == 1 and step % 125 == 0


def _fields(recipe: Recipe) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(recipe)))


def _about(path: Path) -> dict[str, Any]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["run"])


def _summary(report: dict[str, Any]) -> str:
    losses = " ".join(f"{kind.split()[-1]} {loss:.3f}" for kind, loss in report["loss"].items())
    return f"{losses}, {report['tokens_per_second']:,} tokens/s"
