"""Module paths of before 0.2, which still work: with a warning that says where things are now.

One finder serves all of them. A module that is asked for by its old path looks its names up in
the modules that took its place.
"""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType
from typing import Any

REMOVED_IN = "0.4"
"""The version that no longer has the old paths."""

MOVED: dict[str, tuple[str, ...]] = {
    "allocator": ("device.malloc",),
    "bits": ("quantisation.packed_matrices",),
    "cache": ("model.kv_cache",),
    "captures": ("acceleration.step_capture",),
    "catalog": ("config.catalog",),
    "changes": ("interventions.routing_changes",),
    "chat": ("text.chat_template", "text.tokenizer", "errors"),
    "checkpoint": (
        "loading",
        "checkpoints.embedded",
        "checkpoints.folders",
        "checkpoints.writer",
        "device.dtypes",
        "errors",
    ),
    "compiled": ("acceleration.compiled_decoder", "errors"),
    "export": ("recording.xarray_export",),
    "fields": ("config.json_fields", "errors"),
    "files": ("storage.atomic_files", "storage.tensor_files"),
    "filling": ("checkpoints.tensor_plan",),
    "fingerprint": ("recording.weights_fingerprint",),
    "generate": ("generation.sampling", "generation.decoding", "model.batching"),
    "graphs": ("acceleration.cuda_graph_decoder",),
    "guides": ("generation.thinking_control",),
    "offload": ("device.host_transfer",),
    "ondisk": ("recording.layerwise",),
    "packing": ("quantisation.torch_int4_layout",),
    "positions": ("model.positions",),
    "prompts": ("text.prompt",),
    "published": ("checkpoints.tensor_names",),
    "quantised": ("quantisation.quantised_model",),
    "reply": ("generation.reply",),
    "rerouting": ("interventions.rerouting",),
    "shelf": ("streaming.weight_cache",),
    "usage": ("streaming.eviction",),
    "views": ("recording.views", "errors"),
    "weights": ("checkpoints.safetensors_reader", "errors"),
    "writing": ("generation.batch_writer",),
    "analysis.controls": ("experiments.controls",),
    "analysis.effects": ("experiments.effects",),
    "analysis.fidelity": ("experiments.fidelity",),
    "analysis.knockout": ("experiments.knockout",),
    "analysis.moved": ("analysis.value_weighted",),
    "analysis.shares": ("analysis.proportions",),
    "analysis.thoughts": ("analysis.thinking_text",),
    "analysis.windows": ("analysis.map_windows",),
    "analysis.writes": ("analysis.expert_output",),
    "tiny.arithmetic": ("tiny.world.arithmetic",),
    "tiny.batches": ("tiny.training.batches",),
    "tiny.card": ("tiny.evaluation.card",),
    "tiny.code": ("tiny.world.programs",),
    "tiny.descent": ("tiny.training.optimisers",),
    "tiny.documents": ("tiny.world.documents",),
    "tiny.evaluate": ("tiny.evaluation.evaluate",),
    "tiny.families": ("tiny.world.families",),
    "tiny.inside": ("tiny.evaluation.internals",),
    "tiny.lists": ("tiny.world.lists",),
    "tiny.log": ("tiny.training.training_log",),
    "tiny.muon": ("tiny.training.muon",),
    "tiny.recipes": ("tiny.training.recipes",),
    "tiny.replies": ("tiny.evaluation.accuracy",),
    "tiny.stories": ("tiny.world.stories",),
    "tiny.swaps": ("tiny.world.swaps",),
    "tiny.targets": ("tiny.evaluation.targets",),
    "tiny.tokenizer": ("tiny.world.tokenizer",),
    "tiny.trainer": ("tiny.training.trainer",),
    "tiny.words": ("tiny.world.common_words",),
}
"""Old paths below `qwen3lab`, and the modules that hold their names now."""

RENAMED = {
    "acceleration.compiled_decoder": {"CompiledModel": "CompiledDecoder"},
    "acceleration.cuda_graph_decoder": {"GraphedModel": "CudaGraphDecoder"},
    "acceleration.step_capture": {"Capture": "GraphCapture", "Step": "CapturedStep"},
    "analysis.attention": {"HeadScores": "HeadProfile", "head_scores": "head_profile"},
    "analysis.balance": {"importance": "expert_importance"},
    "analysis.map_windows": {"Window": "MapWindow"},
    "bench": {"Plan": "BenchPlan", "Row": "Measurement"},
    "checkpoints.safetensors_reader": {
        "InMemory": "TensorsInMemory",
        "Source": "TensorSource",
        "Weights": "CheckpointReader",
    },
    "checkpoints.tensor_names": {"Part": "StoredPart"},
    "config.catalog": {"models": "model_table"},
    "device.host_transfer": {"Offload": "HostTransfer"},
    "generation.batch_writer": {"Row": "OpenReply"},
    "generation.decoding": {"Runs": "Decoder", "Step": "DecodingStep"},
    "generation.thinking_control": {"Part": "ReplyPart"},
    "hooks": {"NOTHING": "NO_TAP"},
    "model.kv_cache": {"Window": "CacheWindow"},
    "model.positions": {"Place": "Positions"},
    "streaming.eviction": {"Usage": "UsageCounts"},
    "streaming.weight_cache": {"Shelf": "WeightCache"},
    "tiny.evaluation.internals": {"head_scores": "diagnostic_head_scores"},
}
"""Names that changed within a module: the old name, and the new one."""


CONTENTS = {"tiny.training": "tiny.pipeline", "tiny.world": "tiny.world.settings"}
"""Packages that bear the path of an old module, and where that module's names are now."""

ATTRIBUTES = {
    "ExplorerState": {"undrawn": "drawing_error"},
    "AttentionState": {"seen": "recording"},
    "RoutingState": {"seen": "recording", "whole": "baseline"},
    "ThinkingState": {"at_once": "direct_reply", "looking": "answering"},
    "NurseryState": {"looks": "n_snapshots"},
}
"""Attributes of classes that changed their name: the old name, and the new one."""


class RenamedAttributes:
    """A base class whose subclasses in `ATTRIBUTES` still have their old attributes."""

    def __getattr__(self, name: str) -> Any:
        """The attribute by its new name, with a warning."""
        for kind in type(self).__mro__:
            new = ATTRIBUTES.get(kind.__name__, {}).get(name)
            if new is not None:
                owner = type(self).__name__
                _warn(f"{owner}.{name}", f"{owner}.{new}")
                return getattr(self, new)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


class _Finder(MetaPathFinder, Loader):
    """Finds modules by the paths that they had before."""

    def find_spec(
        self, fullname: str, path: Any, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A module that stands in for the old one, or None for any other path."""
        package, _, old = fullname.partition(".")
        return ModuleSpec(fullname, self) if package == "qwen3lab" and old in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Python's own kind of module."""

    def exec_module(self, module: ModuleType) -> None:
        """Warn, and look names up where they are now."""
        old = module.__name__.partition(".")[2]
        new = MOVED[old]
        _warn(f"qwen3lab.{old}", " and ".join(f"qwen3lab.{name}" for name in new))

        def look_up(name: str) -> Any:
            for place in new:
                found = import_module(f"qwen3lab.{place}")
                if hasattr(found, current := RENAMED.get(place, {}).get(name, name)):
                    return getattr(found, current)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__getattr__ = look_up  # type: ignore[method-assign]


def install() -> None:
    """Let `import` find the old paths; calling it again changes nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())


def knows(name: str) -> bool:
    """Whether a module of this old name stood in the package's root."""
    return name in MOVED


def module(name: str) -> ModuleType:
    """The stand-in for a module of this old name."""
    return import_module(f"qwen3lab.{name}")


def renamed(package: str, name: str) -> Any:
    """A name that a package gave up for another, with a warning; for its `__getattr__`.

    Raises:
        AttributeError: the package never had the name.
    """
    new, place = RENAMED.get(package, {}).get(name), package
    if new is None and package in CONTENTS and not name.startswith("_"):
        place = CONTENTS[package]
        new = name if hasattr(import_module(f"qwen3lab.{place}"), name) else None
    if new is None:
        raise AttributeError(f"module 'qwen3lab.{package}' has no attribute {name!r}")
    _warn(f"qwen3lab.{package}.{name}", f"qwen3lab.{place}.{new}")
    return getattr(import_module(f"qwen3lab.{place}"), new)


def _warn(old: str, new: str) -> None:
    """Warn at the line that uses the old name: the first outside the package and `importlib`."""
    frame = sys._getframe()
    while frame.f_back and _package(frame) in ("qwen3lab", "importlib"):
        frame = frame.f_back
    warnings.warn_explicit(
        f"{old} is now {new}; the old path will be removed in version {REMOVED_IN}",
        DeprecationWarning,
        filename=frame.f_code.co_filename,
        lineno=frame.f_lineno,
        module=frame.f_globals.get("__name__"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _package(frame: FrameType) -> str:
    """The top-level package whose code a frame runs."""
    return frame.f_globals.get("__name__", "").partition(".")[0]
