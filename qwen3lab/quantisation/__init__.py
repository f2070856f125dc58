"""Models with int8 or int4 weights."""

from qwen3lab.quantisation.quantised_model import (
    Quantisation,
    quantisation_of,
    quantise,
    quantised_model,
)

__all__ = ["Quantisation", "quantisation_of", "quantise", "quantised_model"]
