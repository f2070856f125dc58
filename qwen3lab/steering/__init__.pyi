from .addition import STREAM_HOOKS as STREAM_HOOKS, Addition as Addition
from .controls import random_control as random_control, shuffled_control as shuffled_control
from .files import load as load, load_gguf as load_gguf, save as save, save_gguf as save_gguf
from .known import (
    from_direction as from_direction,
    from_labels as from_labels,
    from_token as from_token,
)
from .pairs import (
    mean_difference as mean_difference,
    pca_difference as pca_difference,
    principal_direction as principal_direction,
    thinking_direction as thinking_direction,
)
from .places import thinking as thinking
from .strength import StrengthCurve as StrengthCurve, strength_curve as strength_curve
from .vector import Vector as Vector
