from . import (
    analysis as analysis,
)
from . import (
    bench as bench,
)
from . import (
    config as config,
)
from . import (
    errors as errors,
)
from . import (
    exercises as exercises,
)
from . import (
    experiments as experiments,
)
from . import (
    figures as figures,
)
from . import (
    generation as generation,
)
from . import (
    hooks as hooks,
)
from . import (
    interventions as interventions,
)
from . import (
    model as model,
)
from . import (
    recording as recording,
)
from . import (
    text as text,
)
from . import (
    thinking as thinking,
)
from . import (
    tiny as tiny,
)
from . import (
    widgets as widgets,
)
from .checkpoints.embedded import models as models
from .errors import (
    BenchError as BenchError,
)
from .errors import (
    CaptureError as CaptureError,
)
from .errors import (
    ChatError as ChatError,
)
from .errors import (
    CheckpointError as CheckpointError,
)
from .errors import (
    CompileError as CompileError,
)
from .errors import (
    ConfigError as ConfigError,
)
from .errors import (
    CorpusError as CorpusError,
)
from .errors import (
    DtypeError as DtypeError,
)
from .errors import (
    HookError as HookError,
)
from .errors import (
    Qwen3LabError as Qwen3LabError,
)
from .errors import (
    RecordingError as RecordingError,
)
from .errors import (
    StorageError as StorageError,
)
from .generation.reply import Chat as Chat
from .generation.sampling import Sampling as Sampling
from .generation.thinking_control import Extension as Extension
from .generation.thinking_control import Steering as Steering
from .lab import Lab as Lab
from .lab import load as load
from .recording.recording import Recording as Recording

__version__: str
