"""Recordings of activations: made by a tap, viewed, saved and exported."""

from qwen3lab.errors import RecordingError
from qwen3lab.recording.labels import LabelledTensor, Labels
from qwen3lab.recording.recorder import ATTENTION, ROUTING, Recorder
from qwen3lab.recording.recording import Recording
from qwen3lab.recording.views import AttentionView, LayerRouting, RoutingView

__all__ = [
    "ATTENTION",
    "ROUTING",
    "AttentionView",
    "LabelledTensor",
    "Labels",
    "LayerRouting",
    "Recorder",
    "Recording",
    "RecordingError",
    "RoutingView",
]
