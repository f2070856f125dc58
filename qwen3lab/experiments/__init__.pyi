from . import controls as controls
from . import effects as effects
from . import fidelity as fidelity
from . import knockout as knockout
