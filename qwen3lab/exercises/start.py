"""Exercises on tokens, maps and thinking budgets, of the first notebook."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from qwen3lab.analysis.uncertainty import Uncertainty
from qwen3lab.arguments import checked
from qwen3lab.exercises.verdict import Answer, Verdict, missing_expert, text_of, whole_number
from qwen3lab.generation.reply import Chat
from qwen3lab.lab import Lab
from qwen3lab.recording.recording import Recording
from qwen3lab.tiny.world.truth import mark, truth
from qwen3lab.translation import tr


@checked
def most_attended(
    pattern: Float[Tensor, "query key"], query: int, answer: object, *, hint: int = 0
) -> Verdict:
    """To which token does one token of a map attend most?

    Args:
        pattern: attention of one head.
        query: the token that attends.
        answer: position of the key.
        hint: number of a hint to show.
    """
    best = int(pattern[query].argmax())

    def judge(key: int) -> Verdict:
        if not 0 <= key < len(pattern):
            return _no_token(key, len(pattern))
        fact = tr(
            "Token {query} gives {share:.0%} of its attention to token {key}",
            query=query,
            share=float(pattern[query, key]),
            key=key,
        )
        if key == best:
            return Verdict(True, tr("{fact}, and to no token more.", fact=fact))
        return Verdict(
            False, tr("{fact}: {why}", fact=fact, why=_why_not_attended(pattern, query, key))
        )

    return Answer("most_attended", answer, hint).judged(
        judge,
        whole_number,
        tr("A row is a query. Look along the row of token {query}.", query=query),
        tr("`pattern[query]` is that row; `.argmax()` gives the position of its largest weight."),
        tr("Token {query} attends most to token {key}.", query=query, key=best),
    )


def _why_not_attended(pattern: Tensor, query: int, key: int) -> str:
    best = int(pattern[query].argmax())
    if key > query and key == int(pattern[query + 1 :, query].argmax()) + query + 1:
        return tr("you read the column, which says which token attends to it. Read the row.")
    if key > query:
        return tr("it comes later in the text, and no token attends to a later one.")
    if key == query:
        return tr("that is the query itself. Look for the key with the largest weight.")
    if abs(key - best) == 1:
        return tr("the largest weight is right beside it.")
    return tr("another key has a larger weight.")


@checked
def heaviest_expert(
    recording: Recording, layer: int, token: int, answer: object, *, hint: int = 0
) -> Verdict:
    """Which expert of a layer gets the largest weight for a token?

    Args:
        recording: of a mixture of experts.
        layer: one with experts.
        token: its position.
        answer: number of the expert.
        hint: number of a hint to show.
    """
    if not recording.config.is_moe:
        return Verdict(None, tr("This model is dense and has no experts: go on to the next one."))
    routing = recording.routing.layer(layer)
    chosen = routing.experts[token].tolist()

    def judge(expert: int) -> Verdict:
        if missing := missing_expert(expert, routing.n_experts):
            return missing
        if expert == chosen[0]:
            weight = float(routing.weights[token, 0])
            text = tr(
                "Expert {expert} has the weight {weight:.2f}, the largest.",
                expert=expert,
                weight=weight,
            )
            return Verdict(True, text)
        return Verdict(False, _why_not_heaviest(recording, layer, token, expert))

    return Answer("heaviest_expert", answer, hint).judged(
        judge,
        whole_number,
        tr("In the map, a column is a token and a row an expert. Grey cells are not chosen."),
        tr(
            "`rec.routing.layer({layer}).experts[{token}]` lists its experts, the best first.",
            layer=layer,
            token=token,
        ),
        tr("It is expert {expert}.", expert=chosen[0]),
    )


def _why_not_heaviest(recording: Recording, layer: int, token: int, expert: int) -> str:
    experts = recording.routing.layer(layer).experts
    if expert in experts[token].tolist():
        return tr("Expert {expert} is chosen, but another gets a larger weight.", expert=expert)
    if expert == int(experts.flatten().mode().values):
        return tr(
            "Expert {expert} is chosen most often in the whole text, but not by this token.",
            expert=expert,
        )
    return tr("Token {token} is not routed to expert {expert}.", token=token, expert=expert)


@checked
def most_uncertain(found: Uncertainty, answer: object, *, hint: int = 0) -> Verdict:
    """Before which generated token was the model most uncertain?

    Args:
        found: of one reply.
        answer: position of the token in the whole text.
        hint: number of a hint to show.
    """
    entropy, last = found.entropy, found.first + len(found.tokens) - 1
    best = found.first + int(entropy.argmax())

    def judge(place: int) -> Verdict:
        if not found.first <= place <= last:
            text = tr(
                "The model did not generate token {token}: look from {first} to {last}.",
                token=place,
                first=found.first,
                last=last,
            )
            return Verdict(False, text)
        fact = tr(
            "Before token {token}, {text}, the entropy was {value:.2f} nats",
            token=place,
            text=repr(found.tokens[place - found.first]),
            value=float(entropy[place - found.first]),
        )
        if place == best:
            return Verdict(True, tr("{fact}, the highest.", fact=fact))
        return Verdict(
            False, tr("{fact}: {why}", fact=fact, why=_why_not_uncertain(found, place, best))
        )

    return Answer("most_uncertain", answer, hint).judged(
        judge,
        whole_number,
        tr("Plot it: `figures.uncertainty(uncertainty(doubt))`. Which line is the entropy?"),
        tr("`uncertainty(doubt).to_pandas()` has a row for each token: sort it by entropy."),
        tr("It is token {token}, {text}.", token=best, text=repr(found.tokens[best - found.first])),
    )


def _why_not_uncertain(found: Uncertainty, place: int, best: int) -> str:
    if place == found.first + int(found.surprisal.argmax()):
        return tr("that token has the highest surprisal, which says how unlikely the choice was.")
    if abs(place - best) == 1:
        return tr("the highest one is right beside it.")
    return tr("another one is higher.")


@checked
def enough_thinking(lab: Lab, question: str, answer: object, *, hint: int = 0) -> Verdict:
    """Which thinking budget is just enough: right with it, wrong with one token less?

    Args:
        lab: that is asked.
        question: one whose truth is known, as in `tiny.truth`.
        answer: the budget in tokens.
        hint: number of a hint to show.
    """

    def judge(budget: int) -> Verdict:
        if budget < 0:
            return Verdict(False, tr("A budget is 0 or more tokens."))
        reply = _asked(lab, question, budget=budget)
        fact = tr(
            "With {budget} tokens the answer is {given}",
            budget=budget,
            given=repr(reply.answer.strip()[:40]),
        )
        if mark(question, reply.answer) != "right":
            text = tr(
                "{fact}, but {right} is right: it needs more thinking.",
                fact=fact,
                right=truth(question),
            )
            return Verdict(False, text)
        if reply.stop == "natural":
            text = tr(
                "{fact}, but it ended its thinking by itself: find a budget that cuts it.",
                fact=fact,
            )
            return Verdict(False, text)
        if budget and mark(question, _asked(lab, question, budget=budget - 1).answer) == "right":
            return Verdict(False, tr("{fact}, but one token less is enough, too.", fact=fact))
        return Verdict(True, tr("{fact}, and with one token less it is wrong.", fact=fact))

    return Answer("enough_thinking", answer, hint).judged(
        judge,
        whole_number,
        tr("Ask with several budgets, as the cell above does, and narrow the range down."),
        tr("Which step of the thinking first has the result? Count the tokens up to its end."),
        _just_enough(lab, question) if hint == 3 else "",
    )


def _just_enough(lab: Lab, question: str) -> str:
    """The hint that tells such a budget, found from the end of the thinking backwards."""
    enough = None
    for budget in reversed(range(_asked(lab, question).thinking_tokens)):
        if mark(question, _asked(lab, question, budget=budget).answer) == "right":
            enough = budget
        elif enough is not None:
            break
    if enough is None:
        return tr("No smaller budget is enough for this question: take another one.")
    return tr("{budget} tokens are just enough.", budget=enough)


@checked
def needs_thinking(lab: Lab, answer: object, *, hint: int = 0) -> Verdict:
    """Which sum does the model get wrong at once, and right with thinking?

    Args:
        lab: that is asked.
        answer: the sum, such as "12+30=?".
        hint: number of a hint to show.
    """

    def judge(question: str) -> Verdict:
        right = truth(question)
        if right is None:
            text = tr(
                "{question} is no sum of this world: no brackets, and values from 0 to 999.",
                question=repr(question),
            )
            return Verdict(False, text)
        at_once = _asked(lab, question, thinking=False).answer.strip()[:40]
        thought = _asked(lab, question).answer.strip()[:40]
        fact = tr(
            "The truth is {right}; at once it says {at_once}, with thinking {thought}",
            right=right,
            at_once=repr(at_once),
            thought=repr(thought),
        )
        if mark(question, at_once) == "right":
            return Verdict(False, tr("{fact}: too easy, make it longer.", fact=fact))
        if mark(question, thought) != "right":
            return Verdict(False, tr("{fact}: too hard, take smaller numbers.", fact=fact))
        return Verdict(True, tr("{fact}.", fact=fact))

    return Answer("needs_thinking", answer, hint).judged(
        judge,
        text_of,
        tr("How many steps can one token of an answer do? Start with one sign, then add more."),
        tr("Sums with three or four signs and small numbers are right with thinking only."),
        tr("`answer='12+30-7*2+8-15=?'` does it; find a shorter one, too."),
    )


def _asked(lab: Lab, question: str, **options: Any) -> Chat:
    """The reply of a greedy model; its answer is short."""
    suggested = lab.suggested
    options = {"max_new_tokens": suggested.recorded_tokens} | options
    return lab.chat(question, sampling=suggested.sampling, seed=0, **options)


def _no_token(token: int, n: int) -> Verdict:
    text = tr(
        "Token {token} does not exist: the text has tokens 0 to {last}.", token=token, last=n - 1
    )
    return Verdict(False, text)
