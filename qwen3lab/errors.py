"""Every error that the package raises on purpose; all of them are a `Qwen3LabError`.

A value that an argument cannot have is a plain `ValueError`. Most kinds below are one as well, so
that code which catches `ValueError` sees them.
"""


class Qwen3LabError(Exception):
    """Base of the package's own errors; the message says what was wrong and what to do."""


class BenchError(Qwen3LabError, ValueError):
    """A benchmark that cannot be run as asked."""


class CaptureError(Qwen3LabError, RuntimeError):
    """A decoding step could not be captured as a CUDA graph; the message says why."""


class ChatError(Qwen3LabError, ValueError):
    """Messages that cannot be rendered, or a tokenizer that cannot chat."""


class CheckpointError(Qwen3LabError, ValueError):
    """Weights that cannot be loaded; the message names the file and the tensor."""


class CompileError(Qwen3LabError, ValueError):
    """This machine lacks what compiling needs; the message says what."""


class ConfigError(Qwen3LabError, ValueError):
    """A config.json that does not describe a Qwen3; the message names the field."""


class CorpusError(Qwen3LabError, ValueError):
    """A routing corpus that cannot be saved, read or merged."""


class DeviceError(Qwen3LabError, ValueError):
    """A device that this machine does not have, or that holds no values."""


class DtypeError(Qwen3LabError, ValueError):
    """A dtype that weights and recordings cannot have."""


class HeadlessError(Qwen3LabError, ValueError):
    """A model without unembedding, such as an embedding model, was asked for logits or text."""


class HookError(Qwen3LabError, ValueError):
    """A hook that the model does not have, or an edit that does not fit; the message says which."""


class LabError(Qwen3LabError, TypeError):
    """A lab that cannot be copied or pickled."""


class NonFiniteError(Qwen3LabError, ValueError):
    """Logits that are NaN or infinite; the message names the first such activation."""


class RecordingError(Qwen3LabError, ValueError):
    """Something asked of a recording that it does not hold, or a file that is not a recording."""


class ResultsError(Qwen3LabError, ValueError):
    """A file of results that is damaged or holds another run; the message names file and line."""


class StorageError(Qwen3LabError, OSError):
    """A file that cannot be written; the message names the file and the system's reason."""


class VectorError(Qwen3LabError, ValueError):
    """A file that holds no steering vector, or a vector that a file cannot hold."""
