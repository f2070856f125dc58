"""Finding, alternatives and branches in the workbench, without a browser."""

import pytest
import torch
from traitlets import TraitError

from qwen3lab import Sampling
from qwen3lab.figures.theme import visible
from qwen3lab.widgets import Workbench
from qwen3lab.widgets.explorers import attention_compute
from qwen3lab.widgets.workbench.changes import Route
from qwen3lab.widgets.workbench.state import ATTENDS, ENTROPY, EXPERT_WEIGHT, SURPRISAL
from tests.fake_lab import PROMPT, FakeLab
from tests.widgets.workbench.benches import panel, text

QUESTION = "3+2*7-1=?"


def thinking_bench(lab, **options) -> Workbench:
    """A displayed workbench whose first run, with thinking, has ended."""
    bench = Workbench(lab, question=QUESTION, **options)
    panel(bench)
    bench.wait()
    return bench


@pytest.fixture
def bench(tiny_lab):
    bench = thinking_bench(tiny_lab)
    yield bench
    bench.close()


@pytest.fixture
def fake():
    bench = Workbench(FakeLab(), question="Hi")
    panel(bench)
    bench.wait()
    yield bench
    bench.close()


def no_errors(bench: Workbench) -> bool:
    state = bench.state
    return (state.error, state.drawing_error, state.pick_error) == ("", "", "")


def test_a_search_picks_its_first_place_and_goes_on_around_the_ends(bench) -> None:
    view, state = text(bench), bench.state
    tokens = state.recording.tokens
    expected = [at for at, token in enumerate(tokens) if token == "5"]
    assert len(expected) > 2
    view.box.text = "5"
    assert [first for first, _ in state.hits] == expected
    picked = [state.token]
    for _ in expected:
        view.box._handle_custom_msg({"kind": "go", "step": 1}, [])
        picked.append(state.token)
    assert picked == [*expected, expected[0]]
    view.box._handle_custom_msg({"kind": "go", "step": -1}, [])
    assert state.token == expected[-1]
    assert view.box.found == {"hit": len(expected) - 1, "of": len(expected)}
    assert view.text.hits == [[at, at + 1] for at in expected]
    assert view.text.picked == expected[-1]


def test_a_search_begins_at_the_picked_token(bench) -> None:
    state = bench.state
    places = [at for at, token in enumerate(state.recording.tokens) if token == "5"]
    state.token = places[1]
    state.search = "5"
    assert (state.token, state.hit) == (places[1], 1)
    state.token = places[1] + 1
    bench.find.go(-1)
    assert state.token == places[1]


def test_a_place_across_tokens_marks_all_of_them(fake) -> None:
    view, n = text(fake), len(PROMPT)
    fake.state.search = "NE <B>t"
    assert fake.state.hits == ((n, n + 2),) and fake.state.token == n
    assert view.text.hits == [[n, n + 2]]


def test_what_is_not_there_leaves_the_pick_and_a_cleared_search_marks_nothing(fake) -> None:
    view, state = text(fake), fake.state
    state.token = 3
    state.search = "zebra"
    assert (state.token, state.hits, view.box.found) == (3, (), {"hit": -1, "of": 0})
    fake.find.go()
    assert state.token == 3
    state.search = "our"
    assert state.hits
    fake.find.clear()
    assert (state.search, state.hits, view.text.hits, view.box.text) == ("", (), [], "")


def test_a_search_stays_when_the_question_is_asked_again(fake) -> None:
    state = fake.state
    state.search = "three"
    before = state.hits
    assert before
    fake.run()
    assert (state.search, state.hits) == ("three", before)


def test_a_hit_that_does_not_exist_is_refused(fake) -> None:
    fake.state.search = "three"
    with pytest.raises(TraitError, match="hit 1 does not exist: there are hits 0 to 0"):
        fake.state.hit = 1
    fake.state.token = 0
    fake.state.hit = -1
    fake.state.hit = 0
    assert fake.state.token == len(PROMPT) + 2


def test_a_place_on_another_page_is_shown(fake, monkeypatch) -> None:
    monkeypatch.setattr(attention_compute, "MAX_TOKENS_SHOWN", 5)
    view = text(fake)
    fake.state.search = "three"
    at = len(PROMPT) + 2
    first = at // 5 * 5
    assert fake.state.token == at and view.text.shown[0] == first
    assert view.text.text["tokens"][at - first][0] == "·three"


def test_a_jump_goes_through_the_largest_values_in_order(bench) -> None:
    view, state = text(bench), bench.state
    chat = state.current
    for quantity, values in ((SURPRISAL, -chat.logprobs), (ENTROPY, chat.entropy)):
        state.quantity = quantity
        order = values.argsort(descending=True, stable=True).tolist()
        for rank in range(3):
            view.largest.click()
            assert state.token == len(chat.prompt_ids) + order[rank], (quantity, rank)
            which = ("largest", "2nd largest", "3rd largest")[rank]
            said = f"{which} of {quantity}: {float(values[order[rank]]):.3g}"
            assert state.jumped == said and said in view.jumped.value
    state.token = 0
    assert state.jumped == "" and "largest" not in view.jumped.value
    view.largest.click()
    assert state.jumped.startswith("largest of entropy")


def test_a_jump_through_attention_stays_with_the_token_that_it_began_at(bench) -> None:
    state = bench.state
    state.quantity, query = ATTENDS, len(state.recording) - 2
    state.token = query
    weights = state.recording.attention[state.layer, state.head][query]
    order = weights[: query + 1].argsort(descending=True, stable=True).tolist()
    for rank in range(3):
        bench.find.jump()
        assert state.token == order[rank]
        assert f"attention from token {query} " in state.jumped


def test_a_jump_without_values_says_what_to_pick(bench) -> None:
    state = bench.state
    state.quantity = EXPERT_WEIGHT
    bench.find.jump()
    assert state.pick_error == "pick an expert to see its tokens" and state.token == -1
    assert "pick an expert" in panel(bench).stage_alert.value
    state.token = 2
    assert no_errors(bench)


def test_a_jump_before_a_run_is_refused() -> None:
    bench = Workbench(FakeLab(), question="Hi")
    bench.find.jump()
    assert bench.state.pick_error == "there is no text yet: run a question first"


def test_the_token_card_lists_the_likeliest_tokens_of_prompt_and_reply(bench, tiny_lab) -> None:
    state, buttons = bench.state, panel(bench).alternatives.buttons
    chat = state.current
    ids = [*chat.prompt_ids, *chat.token_ids]
    shares = tiny_lab.record(ids).logits.softmax(dim=-1)
    for token in (2, len(chat.prompt_ids), chat.spans["thinking"][0] + 3, len(ids) - 1):
        state.token = token
        top = shares[token - 1].topk(5)
        shown = buttons.alternatives[:5]
        texts = [visible(tiny_lab.tokenizer.decode([at])) for at in top.indices.tolist()]
        assert [each[0] for each in shown] == texts
        torch.testing.assert_close(
            torch.tensor([each[1] for each in shown]), top.values, atol=1e-3, rtol=1e-2
        )
        written = [each[0] for each in buttons.alternatives if each[3]]
        assert written == [visible(state.recording.tokens[token])]
        assert buttons.enabled is (token >= len(chat.prompt_ids))
    state.token = 0
    assert (buttons.alternatives, buttons.note) == ([], "The first token: nothing predicts it.")
    state.token = -1
    assert (buttons.alternatives, buttons.note) == ([], "")


def test_a_recording_without_logits_and_one_without_a_model_say_so(fake, tiny_lab) -> None:
    fake.state.token = 8
    assert panel(fake).alternatives.buttons.note == "No alternatives: the recording has no logits."
    alone = Workbench(tiny_lab.record("3+4=?"))
    buttons = panel(alone).alternatives.buttons
    alone.state.token = 2
    assert len(buttons.alternatives) >= 5 and not buttons.enabled
    assert "there is no model to write on with" in buttons.hint
    buttons.picked = 0
    assert "there is no model to write on with" in panel(alone).stage_alert.value
    alone.close()


def alternative(bench: Workbench, at: int) -> int:
    """Index of the likeliest alternative of a token that is not written there."""
    bench.state.token = at
    buttons = panel(bench).alternatives.buttons
    return next(i for i, each in enumerate(buttons.alternatives) if not each[3])


def test_a_clicked_alternative_is_a_branch_that_all_views_show(bench, tiny_lab) -> None:
    state, chat = bench.state, bench.state.current
    at = chat.spans["thinking"][0] + 5
    index = alternative(bench, at)
    token_id = panel(bench).alternatives.shown[index].token_id
    panel(bench).alternatives.buttons.picked = index
    bench.wait()
    assert no_errors(bench)
    found = state.current
    expected = tiny_lab.branch(
        chat,
        at,
        token_id,
        sampling=Sampling.greedy(),
        budget=state.asked_budget,
        max_new_tokens=bench.max_new_tokens,
    )
    assert found.token_ids == expected.token_ids and found.chosen == (at - len(chat.prompt_ids),)
    assert (state.branch, state.token, state.recording) == (1, at, found.recording)
    assert [branch.chat for branch in state.branches] == [chat, found]
    new = visible(tiny_lab.tokenizer.decode([token_id]))
    old = visible(chat.tokens[at - len(chat.prompt_ids)])
    names = ["original", f"at token {at}: ‘{new}’ instead of ‘{old}’"]
    assert [branch.name for branch in state.branches] == names
    menu = panel(bench).branches.menu
    assert menu.layout.display == "" and menu.value == 1
    assert [name for name, _ in menu.options] == [names[0], f"1: {names[1]}"]
    assert [chip.text for chip in state.chips] == found.tokens
    shown = panel(bench).transcript.reply
    assert shown["run"] == state.run and [chip[0] for chip in shown["chips"]] == found.tokens
    assert [chip.chosen for chip in state.chips].index(True) == at - len(chat.prompt_ids)
    assert "chosen in a branch" in panel(bench).notes.value
    assert len(text(bench).text.text["tokens"]) == len(found.recording)


def test_one_goes_back_to_the_original_and_the_pick_stays_up_to_the_branch(bench) -> None:
    state, chat = bench.state, bench.state.current
    at = chat.spans["thinking"][0] + 5
    bench.branches.write(at, 0)
    bench.wait()
    branch = state.current
    panel(bench).branches.menu.value = 0
    assert state.current is chat and state.branch == 0 and state.token == at
    shown = panel(bench).transcript.reply
    assert [chip[0] for chip in shown["chips"]] == chat.tokens
    state.token = at - 2
    state.branch = 1
    assert state.current is branch and state.token == at - 2
    assert [chip.text for chip in state.chips] == branch.tokens
    state.token = len(branch.recording) - 1
    state.branch = 0
    assert state.token == at
    with pytest.raises(TraitError, match="branch 2 does not exist: there are 0"):
        state.branch = 2
    bench.run()
    assert (state.branches, state.branch) == ((), 0)
    assert panel(bench).branches.menu.layout.display == "none"


def test_a_branch_of_a_branch_says_where_it_comes_from(bench) -> None:
    start = bench.state.current.spans["thinking"][0]
    for number, at in enumerate((start + 2, start + 6)):
        bench.branches.write(at, 20 + number)
        bench.wait()
    names = [branch.name for branch in bench.state.branches]
    assert names[2].startswith(f"at token {start + 6}: ") and names[2].endswith("(of branch 1)")
    assert [branch.parent for branch in bench.state.branches] == [-1, 0, 1]
    assert len(bench.state.current.chosen) == 2


def test_a_branch_has_the_settings_and_the_edits_of_its_run(tiny_lab) -> None:
    bench = Workbench(tiny_lab, question=QUESTION, budget=16)
    state = bench.state
    state.greedy, state.temperature, state.seed = False, 1.3, 5
    state.changes = (Route(3, 0), Route(3, 1), Route(3, 2))
    chat = bench.run()
    state.changes, state.seed, state.budget, state.greedy = (), 6, None, True  # For the next one.
    at = chat.spans["thinking"][0] + 4
    bench.branches.write(at, [*chat.prompt_ids, *chat.token_ids][at])
    bench.wait()
    found = state.current
    assert state.error == "" and found is not chat
    assert (found.token_ids, found.stop, found.thinking_tokens) == (
        chat.token_ids,
        chat.stop,
        chat.thinking_tokens,
    )
    assert len(state.asked_changes) == 3 and state.asked_budget == 16
    bench.close()


@pytest.mark.parametrize(
    ("position", "token_id", "says"),
    [(0, 5, "token 0 is of the prompt"), (-1, 10**6, "token 1000000 does not exist")],
)
def test_an_impossible_branch_is_refused_in_place(bench, position, token_id, says) -> None:
    run = bench.state.run
    with pytest.raises(ValueError, match=says):
        bench.branches.write(position, token_id)
    bench.branches.try_to_write(position, token_id)
    assert says in panel(bench).stage_alert.value
    assert (bench.state.run, bench.state.branches, bench.state.status) == (run, (), "idle")


def test_a_branch_that_fails_returns_to_the_reply_that_it_comes_from(bench, monkeypatch) -> None:
    chat = bench.state.current

    def fail(*_, **__):
        raise RuntimeError("the memory is full")

    monkeypatch.setattr(type(bench.lab), "branch", fail)
    bench.branches.write(chat.spans["thinking"][0] + 2, 5)
    bench.wait()
    state = bench.state
    assert state.current is chat and state.status == "idle" and state.branch == 0
    assert state.error == "RuntimeError: the memory is full"
    assert panel(bench).branches.menu.layout.display == "none"


def test_a_linked_workbench_shows_the_branch_too(bench, tiny_lab) -> None:
    other = Workbench(tiny_lab, link=bench)
    bench.branches.write(bench.state.current.spans["thinking"][0] + 2, 5)
    bench.wait()
    assert other.state.current is bench.state.current
    assert other.state.token == bench.state.token
    other.close()
