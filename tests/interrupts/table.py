"""What a row of the table of long jobs is, and the labs that the jobs run on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

import qwen3lab
from qwen3lab import Sampling
from qwen3lab.acceleration.cuda_graph_decoder import CudaGraphDecoder
from qwen3lab.lab import Lab
from qwen3lab.streaming.streamed_model import least_memory
from tests.graph_stand_in import Count
from tests.interrupts.state import plain

QUESTION = "3+2*7-1=?"
RAISED = "KeyboardInterrupt; the same call gives the same values"
NOTHING = "nothing was on the disk; the same call in a new process gives the same values"
LABS = ("lab", "streamed", "captured")
CACHED_BYTES = 2**21
"""Of the streamed lab: a part of its weights, so that units are evicted."""


@dataclass
class World:
    """What jobs run on.

    Attributes:
        lab: tiny-moe in memory.
        streamed: tiny-moe with most weights read from its file in each pass.
        captured: tiny-moe with decoding steps captured by a stand-in for CUDA graphs.
        folder: for the files of one case, empty before it.
        shown: the streamed steps of one case.
        made: what jobs prepared.
        killed: True where the job was killed, and so could return nothing.
    """

    lab: Lab
    streamed: Lab
    captured: Lab
    folder: Path
    shown: list[Any] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)
    killed: bool = False

    @classmethod
    def make(cls, folder: Path) -> "World":
        """Load the labs."""
        options: dict[str, Any] = {"device": "cpu", "dtype": "float32"}
        lab = qwen3lab.load("tiny-moe", **options)
        memory = least_memory(lab.config, torch.float32) + CACHED_BYTES
        streamed = qwen3lab.load("tiny-moe", memory=memory, **options)
        streamed.model.blocks.progress = False
        captured = Lab(lab.model, lab.tokenizer, lab.name, defaults=lab.defaults)
        captured._decoder = CudaGraphDecoder(lab.model, capture=Count())
        world = cls(lab, streamed, captured, folder)
        for name in LABS:
            world.probe(name)  # The first time, caches are filled.
            world.made[f"probe of {name}"] = world.probe(name)
        return world

    def probe(self, name: str) -> Any:
        """Numbers of one of the labs, which no interrupt may change."""
        if name != "captured":
            return plain(getattr(self, name).record(QUESTION).logits)
        greedy = Sampling.greedy()
        reply = self.captured.generate([4, 5], max_new_tokens=20, sampling=greedy, record=True)
        return plain((reply.logprobs, reply.recording))


@dataclass(frozen=True)
class Job:
    """A long job and its promises.

    Attributes:
        name: of the job.
        interrupted: the promise after an interrupt, in words.
        killed: the promise after a kill, in words.
        run: the job; it returns its value.
        prepare: makes once what the job needs; kept as `world.made[name]`.
        before: puts files into the folder before each case.
        kept: checks what an interrupt left: gets the world, the value of a whole run, and what the
            job returned, or None if KeyboardInterrupt came out.
        files: what is compared after the job was gone on with, read from the folder.
        compared: False if the value of a second run is not that of the first (the checks of
            `kept` are all).
        share: of the cases, relative to the other jobs.
        labs: names of the labs that it runs.
        survives: True if its files are tried with kills as well.
    """

    name: str
    interrupted: str
    killed: str
    run: Callable[[World], Any]
    prepare: Callable[[World], Any] | None = None
    before: Callable[[World], object] = lambda world: None
    kept: Callable[[World, Any, Any], object] = lambda world, whole, value: None
    files: Callable[[Path], Any] = lambda folder: None
    share: int = 2
    labs: tuple[str, ...] = ("lab",)
    survives: bool = False
