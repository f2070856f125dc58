from .embedded import (
    embedded_models as embedded_models,
    embedded_revisions as embedded_revisions,
    models as models,
)
from .folders import find_folder as find_folder
from .writer import save_checkpoint as save_checkpoint
