"""The training loop of the embedded models, with the package's own forward pass.

A batch depends only on the seed and the step. So a resumed run gives the same weights as an
uninterrupted one, and the same seed on the same machine gives the same weights.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from qwen3lab.analysis.balance import balance_loss
from qwen3lab.device.grad_mode import with_grad, without_grad
from qwen3lab.hooks.taps import Keep
from qwen3lab.model.transformer import Qwen3
from qwen3lab.storage.atomic_files import whole_file
from qwen3lab.storage.checked_tensors import open_tensors, read_tensors
from qwen3lab.tiny.training.batches import Batch, Packer
from qwen3lab.tiny.training.optimisers import learning_rate, optimizers, rounds_products
from qwen3lab.tiny.training.products import Bfloat16Products
from qwen3lab.tiny.training.recipes import Recipe
from qwen3lab.tiny.training.snapshot import Snapshot, optimiser_states
from qwen3lab.tiny.training.training_log import LOG, append_log, read_log, write_log
from qwen3lab.tiny.world.documents import Writer
from qwen3lab.translation import tr

SAVE_EVERY_STEPS = 500
LOG_EVERY_STEPS = 50
SHIPPED_DTYPE = torch.float16
OPTIMISER_STATE_KEYS = ("step", "exp_avg", "exp_avg_sq", "momentum_buffer")


class Trainer:
    """One training run; its folder contains the weights, the optimiser state and the log.

    Args:
        recipe: the settings of the training.
        tokenizer: the embedded models' tokenizer.
        early_stop: the early-stop sentence.
        folder: of the run; if it contains an unfinished run of the same recipe, that run is
            resumed.
        device: device of the training.

    Raises:
        ValueError: the folder contains a run of another recipe.
    """

    def __init__(
        self, recipe: Recipe, tokenizer: Any, early_stop: str, folder: Path, device: str = "cpu"
    ) -> None:
        self.recipe, self.folder, self.device = recipe, folder, device
        writer = Writer(tokenizer, early_stop, diets=recipe.diets, opening=recipe.course)
        later = [Writer(tokenizer, early_stop, diets=each.diets) for each in recipe.later]
        self.packer = Packer(writer, recipe, later=later)
        self.model = Qwen3(recipe.config)
        self.model.init_weights(torch.Generator().manual_seed(recipe.seed))
        self.model.to(device).train()
        self.optimizers = optimizers(self.model, recipe)
        rounds = rounds_products(recipe, self.model.device)
        self._products = Bfloat16Products if rounds else nullcontext
        self._half_way = f"blocks.{recipe.config.n_layers // 2 - 1}.hook_resid_post"
        self.step, self.tokens, self.seconds = 0, 0, 0.0
        self._before_step: Snapshot | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def run(self, *, minutes: float | None = None, progress: bool = True) -> None:
        """Train to the last step or to the time limit, then save; an interrupt saves, too.

        An interrupt inside a step undoes that step, so that what is saved is always a whole one.

        With `minutes`, the learning rate decays with the elapsed time, so the weights depend on
        the machine's speed.

        Args:
            minutes: time limit, counted from the first start of the run; None for no limit.
            progress: show a progress bar.

        Raises:
            ValueError: `minutes` is not greater than 0.
        """
        _check_minutes(minutes)
        bar = tqdm(total=self.recipe.steps, initial=self.step, disable=not progress, unit="step")
        try:
            for report in self.steps(minutes):
                bar.update()
                if report:
                    bar.set_postfix_str(_summary(report))
        finally:
            self.save()
            bar.close()

    def steps(self, minutes: float | None = None) -> Iterator[dict[str, Any] | None]:
        """Train as `run` does, but without the final save.

        Yields:
            After each step, the log report of that step, or None if the step has none.
        """
        sums: dict[str, list[float]] = {}
        started, before = time.monotonic(), self.seconds
        while self.step < self.recipe.steps:
            self.seconds = before + time.monotonic() - started
            spent = self.seconds / (minutes * 60) if minutes is not None else 0.0
            if spent >= 1:
                return
            self._undo_half_step()
            self._before_step = Snapshot.of(
                self.model, self.optimizers, step=self.step, tokens=self.tokens
            )
            try:
                self._one_step(spent, sums)
                self.step += 1
                report = self._log(sums) if self.step % LOG_EVERY_STEPS == 0 else None
                self._before_step = None  # One assignment: an interrupt comes before or after it.
            except BaseException:
                self._undo_half_step()
                raise
            if self.step % SAVE_EVERY_STEPS == 0 or self._is_kept():
                self.save()
            yield report

    @with_grad
    def _one_step(self, spent: float, sums: dict[str, list[float]]) -> None:
        if self.step in (course.begin for course in self.recipe.later):
            self._begin_course()
        with self._products():
            loss = self._loss(self.packer.batch(self.step), sums)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.recipe, self.step, spent)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    @without_grad
    def _begin_course(self) -> None:
        """Round the weights to the precision in which they ship; clear the optimiser state."""
        for parameter in self.model.parameters():
            parameter.copy_(parameter.to(SHIPPED_DTYPE))
        for optimizer in self.optimizers:
            optimizer.state.clear()

    def _loss(self, batch: Batch, sums: dict[str, list[float]]) -> Float[Tensor, ""]:
        """Weighted cross-entropy at the middle and last layer, plus the load-balancing loss."""
        real = batch.segments >= 0
        tap = _RoutingTap(real.flatten().to(self.device), self._half_way)
        ids, weights = batch.token_ids.to(self.device), _shift_left(batch.weights).to(self.device)
        logits = self.model(ids, segments=batch.segments.to(self.device), tap=tap)
        losses = _token_losses(logits, _shift_left(ids))
        self.tokens += int(real.sum())
        self._sum_losses(batch, losses.detach().cpu(), sums)
        if self.step in range(*self.recipe.half_way_steps):
            early = self.model.ln_final(tap.kept[self._half_way])
            early_logits = F.linear(early, self.model.unembedding)
            losses = losses + self.recipe.half_way * _token_losses(early_logits, _shift_left(ids))
        loss = (losses * weights).sum() / weights.sum()
        balances = [balance_loss(logits, experts) for logits, experts in tap.layers()]
        if balances:
            balance = torch.stack(balances).mean()
            _add(sums, "balance", float(balance.detach()), 1.0)
            loss = loss + self.recipe.balance * balance
        return loss

    def _sum_losses(
        self, batch: Batch, losses: Float[Tensor, "row pos"], sums: dict[str, list[float]]
    ) -> None:
        """Add the losses of the predictable tokens to the sums of their kinds."""
        predictable = _shift_left(batch.weights) >= 1
        kinds, n_kinds = _shift_left(batch.kinds)[predictable], len(self.packer.kinds)
        totals = torch.bincount(kinds, losses[predictable], minlength=n_kinds).tolist()
        n = torch.bincount(kinds, minlength=n_kinds).tolist()
        for index, kind in enumerate(self.packer.kinds):
            _add(sums, kind, totals[index], float(n[index]))

    def _log(self, sums: dict[str, list[float]]) -> dict[str, Any]:
        """Append a report to the log: mean losses in nats per token, and tokens per second."""
        report = {
            "step": self.step,
            "seconds": round(self.seconds, 1),
            "tokens": self.tokens,
            "tokens_per_second": round(self.tokens / max(self.seconds, 1e-9)),
            "loss": {kind: round(s / max(n, 1), 4) for kind, (s, n) in sorted(sums.items())},
            "families": _by_family(sums),
        }
        sums.clear()
        append_log(self.folder, report)
        return report

    def _undo_half_step(self) -> None:
        """Restore the state before a step that was interrupted."""
        before = self._before_step
        if before is not None:
            before.restore(self.model, self.optimizers)
            self.step, self.tokens = before.step, before.tokens
            self._cut_log()
            self._before_step = None

    def save(self) -> None:
        """Write weights, optimiser state and step, from which the run can resume.

        The updates of an interrupted step are undone first.
        """
        self._undo_half_step()
        state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        for name, buffers in self._optimiser_states():
            state |= {f"{key}.{name}": value for key, value in buffers.items()}
        about = {"recipe": _recipe_fields(self.recipe)}
        about |= {"step": self.step, "tokens": self.tokens, "seconds": self.seconds}
        with whole_file(self.folder / "run.safetensors") as part:
            save_file(state, part, metadata={"run": json.dumps(about)})
        if self._is_kept():
            weights = {n.removeprefix("model."): t for n, t in state.items() if n[:5] == "model"}
            with whole_file(self.weights_at(self.step)) as part:
                save_file(weights, part)

    def weights_at(self, step: int) -> Path:
        """Path of the weights of a step; the file exists if the run kept that step."""
        return self.folder / f"weights-{step:06d}.safetensors"

    def _is_kept(self) -> bool:
        return self.step in self.recipe.early or _is_milestone(self.step)

    def _resume(self) -> None:
        path = self.folder / "run.safetensors"
        if not path.exists():
            return
        with open_tensors(path) as file:
            about = json.loads(file.metadata["run"])
        if about["recipe"] != _recipe_fields(self.recipe):
            raise ValueError(
                tr(
                    "{folder} holds a run of another recipe: choose another folder, or remove "
                    "this one",
                    folder=self.folder,
                )
            )
        state = {name: value.to(self.device) for name, value in read_tensors(path).items()}
        weights = {n[6:]: tensor for n, tensor in state.items() if n.startswith("model.")}
        self.model.load_state_dict(weights)
        for name, buffers in self._optimiser_states():
            names = {key: f"{key}.{name}" for key in OPTIMISER_STATE_KEYS}
            buffers |= {key: state[names[key]] for key in names if names[key] in state}
        self.step, self.tokens, self.seconds = about["step"], about["tokens"], about["seconds"]
        self._cut_log()

    def _optimiser_states(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The name of each parameter, with the state that its optimiser keeps for it."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for parameter, buffers in optimiser_states(self.optimizers):
            yield names[parameter], buffers

    def _cut_log(self) -> None:
        """Remove the log reports after the saved step: the resumed run writes them again."""
        if (self.folder / LOG).exists():
            reports = [line for line in read_log(self.folder) if line["step"] <= self.step]
            write_log(self.folder, reports)


class _RoutingTap(Keep):
    """Keeps the routing of non-padding tokens with its gradient; `Keep` would detach it."""

    def __init__(self, real: Bool[Tensor, " token"], half_way: str) -> None:
        super().__init__(())
        self.real, self.half_way = real, half_way

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if name.endswith(("hook_router_logits", "hook_expert_indices")):
            self.kept[name] = value.flatten(0, 1)[self.real]
        elif name == self.half_way:
            self.kept[name] = value
        return value

    def layers(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Router logits and selected experts of each layer."""
        for name, logits in self.kept.items():
            if name.endswith("hook_router_logits"):
                yield logits, self.kept[name.replace("router_logits", "expert_indices")]


def _shift_left(values: Shaped[Tensor, "row pos"]) -> Shaped[Tensor, "row pos"]:
    """The values shifted one position to the left, with 0 at the end: the targets' values.

    Slicing the logits instead would copy them and their gradient.
    """
    return F.pad(values[:, 1:], (0, 1))


def _token_losses(
    logits: Float[Tensor, "row pos vocab"], targets: Int[Tensor, "row pos"]
) -> Float[Tensor, "row pos"]:
    flat = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none")
    return flat.view_as(targets)


def _add(sums: dict[str, list[float]], kind: str, loss: float, n: float) -> None:
    total = sums.setdefault(kind, [0.0, 0.0])
    total[0] += loss
    total[1] += n


def _check_minutes(minutes: float | None) -> None:
    if minutes is not None and not minutes > 0:
        raise ValueError(
            tr(
                "cannot train for {minutes:g} minutes: expected more than 0, or None for no limit",
                minutes=minutes,
            )
        )


def _is_milestone(step: int) -> bool:
    """True for the log-spaced steps whose weights are kept: 125, 250, 500, 1000, ..."""
    return step >= 125 and (step // 125).bit_count() == 1 and step % 125 == 0


def _recipe_fields(recipe: Recipe) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(recipe)))


def _by_family(sums: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Mean loss of each family over all kinds of its documents, nats per token."""
    families: dict[str, list[float]] = {}
    for kind, (loss, n) in sorted(sums.items()):
        _add(families, kind.split()[0], loss, n)
    return {family: round(loss / max(n, 1), 4) for family, (loss, n) in families.items()}


def _summary(report: dict[str, Any]) -> str:
    losses = " ".join(f"{family} {loss:.3f}" for family, loss in report["families"].items())
    return f"{losses}, {report['tokens_per_second']:,} tokens/s"
