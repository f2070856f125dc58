from . import progress as progress
from .attention import (
    SCORES as SCORES,
    best_head as best_head,
    needed_head as needed_head,
    reads_token as reads_token,
    sink_heads as sink_heads,
)
from .growth import (
    chance_overlap as chance_overlap,
    feeds_induction as feeds_induction,
    formed as formed,
    head_of_kind as head_of_kind,
    last_family as last_family,
)
from .progress import (
    Progress as Progress,
)
from .routing import (
    busiest_expert as busiest_expert,
    hurts_most as hurts_most,
    partner as partner,
    specialist as specialist,
    surest_router as surest_router,
)
from .scale import (
    best_half_for as best_half_for,
    expert_of_label as expert_of_label,
    experts_needed as experts_needed,
    layer_of_topic as layer_of_topic,
    nearest_expert as nearest_expert,
)
from .start import (
    enough_thinking as enough_thinking,
    heaviest_expert as heaviest_expert,
    most_attended as most_attended,
    most_uncertain as most_uncertain,
    needs_thinking as needs_thinking,
)
from .tasks import (
    TASKS as TASKS,
    Task as Task,
    standing as standing,
)
from .thinking import (
    budget_needed as budget_needed,
    cheapest_budget as cheapest_budget,
    crucial_part as crucial_part,
    mentions_hint as mentions_hint,
    settles as settles,
)
from .verdict import (
    NO_ANSWER as NO_ANSWER,
    Verdict as Verdict,
)
from .why import (
    changes_the_text as changes_the_text,
    decisive_cell as decisive_cell,
    first_layer as first_layer,
    reads_label as reads_label,
    strongest_head as strongest_head,
)
