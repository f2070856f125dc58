from . import (
    analysis as analysis,
    attribution as attribution,
    bench as bench,
    checkpoints as checkpoints,
    config as config,
    corpus as corpus,
    errors as errors,
    exercises as exercises,
    experiments as experiments,
    figures as figures,
    generation as generation,
    hooks as hooks,
    interventions as interventions,
    lenses as lenses,
    metrics as metrics,
    model as model,
    patching as patching,
    probes as probes,
    recording as recording,
    steering as steering,
    text as text,
    thinking as thinking,
    tiny as tiny,
    translation as translation,
    verification as verification,
    widgets as widgets,
)
from .checkpoints.embedded import models as models
from .config.qwen3_config import Qwen3Config as Qwen3Config
from .errors import (
    BenchError as BenchError,
    CaptureError as CaptureError,
    ChatError as ChatError,
    CheckpointError as CheckpointError,
    CompileError as CompileError,
    ConfigError as ConfigError,
    CorpusError as CorpusError,
    DeviceError as DeviceError,
    DtypeError as DtypeError,
    HeadlessError as HeadlessError,
    HookError as HookError,
    LabError as LabError,
    NonFiniteError as NonFiniteError,
    Qwen3LabError as Qwen3LabError,
    RecordingError as RecordingError,
    ResultsError as ResultsError,
    StorageError as StorageError,
    VectorError as VectorError,
)
from .generation.reply import Chat as Chat
from .generation.sampling import Sampling as Sampling
from .generation.thinking_control import Extension as Extension, Steering as Steering
from .lab import Lab as Lab, load as load
from .recording.recording import Recording as Recording
from .translation import language as language, set_language as set_language

__version__: str
