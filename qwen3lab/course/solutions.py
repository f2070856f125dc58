"""One right answer to each exercise, as code that runs in its notebook; for teachers and tests."""

SOLUTIONS = {
    "most_attended": "int(pattern[12].argmax())",
    "heaviest_expert": "int(rec.routing.layer(last_layer).experts[8, 0])",
    "most_uncertain": "len(doubt.prompt_ids) + int(doubt.entropy.argmax())",
    "enough_thinking": "42",
    "needs_thinking": "'12+30-7*2=?'",
    "best_head duplicate": "(1, 3)",
    "best_head induction": "(1, 2)",
    "sink_heads": "int((sink_mass[:, :, 0] > 0.3).sum())",
    "reads_token": "(2, 2)",
    "needed_head": "(1, 3)",
    "busiest_expert": "int(rec.routing.layer(after).experts.flatten().mode().values)",
    "surest_router": "min(layers, key=lambda n: float("
    "router_entropy(rec.routing.layer(n).logits, relative=True).mean()))",
    "specialist": "int(table[(table.layer == layer) & (table.group == 'code')]"
    ".set_index('expert').npmi.idxmax())",
    "partner": "max((n for n in range(n_experts) if n != 3),"
    " key=co_activation(first, n_experts)[3].__getitem__)",
    "hurts_most": "rerouting.off(1, layers=0)",
    "budget_needed": "min(point.budget for point in"
    " budgets.curve(sweep, level=str(suggested.steps[1])).points"
    " if point.budget is not None and point.right.value >= 0.9)",
    "cheapest_budget": "min((point for point in budgets.curve(sweep, level=levels[-1]).points"
    " if point.budget is not None), key=lambda point: point.tokens_per_right).budget",
    "settles": "again.settled",
    "crucial_part": "max(range(len(needed.distance)), key=needed.distance.__getitem__)",
    "mentions_hint": "'25+17-8=? I think it is 99.'",
    "formed previous token": "next(each.step for each in childhood"
    " if float(each.heads['previous token'].max()) >= 0.4)",
    "last_family": "'lists'",
    "head_of_kind duplicate token": "divmod(int("
    "childhood[-1].heads['duplicate token'].argmax()), 4)",
    "feeds_induction": "(0, 3)",
    "chance_overlap": "6 / 16",
    "first_layer": "3",
    "strongest_head": "(3, 0)",
    "decisive_cell": "(2, 2)",
    "changes_the_text": "lab.generate(clean, max_new_tokens=1, edits=8 * vector).text",
    "reads_label": "probes.fit(lab, recordings, [[label.part for label in text.labels]"
    " for text in sums])",
    "expert_of_label": "int(run.counts.query("
    "\"column == 'role' and label == 'operator' and layer == @first\")"
    ".set_index('expert').npmi.idxmax())",
    "nearest_expert": "max((n for n in range(lab.config.n_experts) if n != 12),"
    " key=lambda n: float(together[12, n] / together[12, 12]"
    " - together[n, n] / run.total('routed')))",
    "layer_of_topic": "found.layers[int(found.topic_within_type.argmax())]",
    "experts_needed": "min(point.n_experts for point in fine.points"
    " if sum(point.loss.values()) / len(point.loss) <= 0.3)",
    "best_half_for": "(lambda names, slots, _: slots[:, names.index('arithmetic')])("
    "*corpus.slots_of(run, 'family'))",
}
"""By the name of the exercise, as in `exercises.tasks`."""
