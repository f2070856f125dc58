from .fitting import fit as fit
from .probes import Probes as Probes
