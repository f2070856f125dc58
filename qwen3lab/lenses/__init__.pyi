from .first_lead import FirstLead as FirstLead
from .jacobian import JacobianLens as JacobianLens, jacobian_lens as jacobian_lens
from .jacobian_fit import fit_jacobian as fit_jacobian
from .lens import Lens as Lens
from .logit import logit_lens as logit_lens
from .places import NEEDED as NEEDED, Place as Place, needed as needed
from .published import open_published as open_published
from .top_of_lens import TopOfLens as TopOfLens
from .training import train as train
from .tuned import TunedLens as TunedLens, tuned_lens as tuned_lens
