from .gradients import Gradients as Gradients, gradients as gradients
from .metric import (
    Metric as Metric,
    Reading as Reading,
    answer_log_probability as answer_log_probability,
    kl_to as kl_to,
    log_probability as log_probability,
    logit as logit,
    logit_difference as logit_difference,
    resolved as resolved,
    token_id as token_id,
)
