"""A training of the micro model that ships as a recording: its snapshots and its last weights.

`python -c "from qwen3lab.tiny.recorded_growth import record; record()"` makes it again.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from qwen3lab.analysis.specialisation import Information
from qwen3lab.checkpoints.folders import find_folder
from qwen3lab.config import Qwen3Config
from qwen3lab.lab import Lab
from qwen3lab.model.transformer import Qwen3
from qwen3lab.storage.checked_tensors import open_tensors, read_tensors, save_checked
from qwen3lab.text.tokenizer import open_tokenizer
from qwen3lab.tiny.growth import Growth, Snapshot
from qwen3lab.tiny.training.recipes import MICRO_MOE
from qwen3lab.tiny.training.trainer import SHIPPED_DTYPE

RECORDING = Path(__file__).parent / "recordings" / "micro-moe.safetensors"
STEPS, EVERY, SEED = 900, 25, 0
WEIGHTS, HEADS = "model.", "heads."
"""First parts of the names of tensors."""


@dataclass(frozen=True)
class Making:
    """How a recording was made.

    Attributes:
        made_on: the date, such as "2026-11-30".
        steps: of the training.
        every: steps between two snapshots.
        seed: of the initial weights and the documents.
        torch: version of torch.
        machine: kind of processor, such as "x86_64".
        threads: number of threads that trained.
    """

    made_on: str
    steps: int
    every: int
    seed: int
    torch: str
    machine: str
    threads: int


@dataclass(frozen=True)
class RecordedGrowth:
    """A training that is over: what a `Growth` has at its end, read from a file.

    Attributes:
        history: the snapshots; the first is from before the training.
        making: when and with what it was made.
        path: of the file, which has the last weights, too.
    """

    history: list[Snapshot]
    making: Making
    path: Path
    name: ClassVar[str] = MICRO_MOE.name
    config: ClassVar[Qwen3Config] = MICRO_MOE.config
    share_done: ClassVar[float] = 1.0

    @property
    def lab(self) -> Lab:
        """A lab with the model at the end of the training; every access reads it again."""
        model = Qwen3(self.config)
        with open_tensors(self.path) as file:
            names = [name for name in file.stored if name.startswith(WEIGHTS)]
            weights = {name.removeprefix(WEIGHTS): file.read(name).float() for name in names}
        model.load_state_dict(weights)
        return Lab(model, open_tokenizer(find_folder("tiny-moe")), self.name)


def recorded_growth(path: str | Path = RECORDING) -> RecordedGrowth:
    """The recorded training of the micro model: `Growth(steps=900)`, made beforehand.

    Args:
        path: of the recording; default: the one that ships.

    Raises:
        OSError: there is no such file.
        ValueError: the file is damaged.
    """
    path = Path(path)
    with open_tensors(path) as file:
        about = json.loads(file.metadata["about"])
    values = {name: value for name, value in read_tensors(path).items() if WEIGHTS not in name}
    n = len(values["step"])
    history = [_snapshot(values, about, number) for number in range(n)]
    return RecordedGrowth(history, Making(**about["making"]), path)


def record(path: str | Path = RECORDING, *, steps: int = STEPS, every: int = EVERY) -> Path:
    """Train the micro model, and write its snapshots and its last weights.

    Args:
        path: of the file.
        steps: of the training.
        every: steps between two snapshots.
    """
    growth = Growth(steps=steps, every=every, seed=SEED)
    history = growth.run(on_look=lambda look: print(f"step {look.step} of {steps}", flush=True))
    threads, machine = torch.get_num_threads(), platform.machine()
    today = date.today().isoformat()
    making = Making(today, steps, every, SEED, str(torch.__version__), machine, threads)
    about = {
        "making": asdict(making),
        "families": list(history[0].surplus),
        "kinds": list(history[0].heads),
        "layers": list(history[0].layers),
    }
    weights = growth.lab.model.state_dict()
    tensors = _tensors(history)
    tensors |= {f"{WEIGHTS}{name}": each.to(SHIPPED_DTYPE) for name, each in weights.items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checked(tensors, path, {"about": json.dumps(about)})
    return path


def _tensors(history: Sequence[Snapshot]) -> dict[str, Tensor]:
    """The snapshots, one row each."""
    information = [
        [[layer.value, *layer.shuffled] for layer in look.information] for look in history
    ]
    experts = [look.experts for look in history if look.experts is not None]
    heads = {
        f"{HEADS}{kind}": torch.stack([look.heads[kind] for look in history]).contiguous()
        for kind in history[0].heads
    }
    return heads | {
        "step": torch.tensor([look.step for look in history]),
        "seconds": torch.tensor([look.seconds for look in history]),
        "tokens": torch.tensor([look.tokens for look in history]),
        "surplus": torch.tensor([list(look.surplus.values()) for look in history]),
        "information": torch.tensor(information),
        "experts": torch.stack(experts).to(torch.uint8),
    }


def _snapshot(values: Mapping[str, Tensor], about: Mapping[str, Any], number: int) -> Snapshot:
    row = {name: value[number] for name, value in values.items()}
    information = [Information(first, tuple(rest)) for first, *rest in row["information"].tolist()]
    heads = {kind: row[f"{HEADS}{kind}"] for kind in about["kinds"]}
    return Snapshot(
        step=int(row["step"]),
        seconds=float(row["seconds"]),
        tokens=int(row["tokens"]),
        surplus=dict(zip(about["families"], row["surplus"].tolist(), strict=True)),
        heads=heads,
        information=information,
        experts=row["experts"].long(),
        layers=tuple(about["layers"]),
    )
