"""Models with int8 or int4 weights."""

from qwen3lab.quantisation.quantised_model import (
    Quantisation,
    open_quantised,
    quantisation_of,
    quantise,
)

__all__ = ["Quantisation", "open_quantised", "quantisation_of", "quantise"]
