from .atlas import atlas as atlas, slots_of as slots_of, topic_and_type as topic_and_type
from .expert_scores import (
    ExpertScores as ExpertScores,
    RoutingDifference as RoutingDifference,
    expert_scores as expert_scores,
    routing_difference as routing_difference,
)
from .hidden_states import from_hidden_states as from_hidden_states
from .plan import CorpusPlan as CorpusPlan
from .recorder import record as record
from .routed_experts import from_routed_experts as from_routed_experts
from .run import CorpusRun as CorpusRun, open as open
