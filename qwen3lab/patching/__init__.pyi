from .ablation import ablate as ablate
from .activation import patch as patch
from .alignment import Align as Align, Pairs as Pairs, aligned as aligned
from .attribution import attribution_patching as attribution_patching
from .metrics import (
    Metric as Metric,
    answer_log_probability as answer_log_probability,
    kl_to as kl_to,
    log_probability as log_probability,
    logit as logit,
    logit_difference as logit_difference,
)
from .path import (
    Sender as Sender,
    expert as expert,
    head as head,
    mlp as mlp,
    path_patching as path_patching,
)
from .results import Ablated as Ablated, Agreement as Agreement, Patched as Patched, Swept as Swept
from .sites import SITES as SITES
