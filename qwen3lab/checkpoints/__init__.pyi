from .embedded import (
    embedded_models as embedded_models,
)
from .embedded import (
    embedded_revisions as embedded_revisions,
)
from .embedded import (
    models as models,
)
from .folders import find_folder as find_folder
from .writer import save_checkpoint as save_checkpoint
