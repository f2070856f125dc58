import copy
import importlib
import json

import pytest
import torch

import qwen3lab
from qwen3lab import Sampling, tiny
from qwen3lab.errors import ResultsError
from qwen3lab.thinking import Exercise, Sweep, sweep, sweep as package_sweep

BUDGETS = (0, 3, 7, 10, 40)
MODULE = importlib.import_module("qwen3lab.thinking.sweep")
"""The module: the package's `sweep` is the function."""


@pytest.fixture(scope="module")
def problems():
    chains = [p for steps in (1, 4, 7) for p in tiny.problems("arithmetic", n=2, steps=steps)]
    return [*chains, *tiny.problems("swaps", n=2, steps=2, seed=3)]


def fields(answer):
    """The fields of an answer that `fields_of_chat` returns for a chat."""
    return (answer.text, answer.thinking_tokens, answer.answer_tokens, answer.stop)


def fields_of_chat(lab, problem, seed, sampling, **options):
    """The fields of the reply of a separate chat."""
    chat = lab.chat(problem.question, seed=seed, sampling=sampling, max_new_tokens=300, **options)
    return (chat.answer, chat.thinking_tokens, chat.answer_tokens, chat.stop)


@pytest.mark.parametrize(
    ("name", "sampling"),
    [
        pytest.param("tiny-moe", None, id="sampled-tiny-moe"),
        pytest.param("tiny-dense", Sampling.greedy(), id="greedy-tiny-dense"),
        pytest.param("tiny-moe", Sampling.greedy(), id="greedy-tiny-moe", marks=pytest.mark.slow),
        pytest.param("tiny-dense", None, id="sampled-tiny-dense", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_gives_the_answers_of_one_chat_per_budget(labs, problems, name, sampling):
    lab, selected, samples = labs[name], problems[::2], 2 if sampling is None else 1
    options = {"samples": samples, "seed": 11, "sampling": sampling, "batch": 5}
    found = sweep(lab, selected, BUDGETS, **options, progress=False)
    assert found.complete and len(found.attempts) == 4 * samples
    for attempt in found.attempts:
        problem = selected[attempt.problem]
        seed = 11 + samples * attempt.problem + attempt.sample
        for budget, answer in zip(BUDGETS, attempt.answers, strict=True):
            assert fields(answer) == fields_of_chat(lab, problem, seed, sampling, budget=budget)
        assert fields(attempt.at_once) == fields_of_chat(
            lab, problem, seed, sampling, thinking=False
        )
        assert attempt.right == tuple(problem.grade(a.text) for a in attempt.answers)
        assert attempt.right_at_once == problem.grade(attempt.at_once.text)


def test_samples_of_one_problem_differ_at_high_temperature(tiny_lab, problems):
    found = sweep(
        tiny_lab,
        problems[-1:],
        [60],
        samples=6,
        sampling=Sampling(temperature=3.0),
        progress=False,
    )
    assert len({attempt.thinking for attempt in found.attempts}) > 1


def test_answer_tokens_limits_the_length_of_the_answer(tiny_lab, problems):
    greedy = Sampling.greedy()
    (attempt,) = sweep(
        tiny_lab, problems[-1:], [0, 60], answer_tokens=1, sampling=greedy, progress=False
    ).attempts
    # After thinking that no budget ended, the first token of the answer is a blank line.
    assert [(a.answer_tokens, a.stop) for a in attempt.answers] == [(1, "length"), (0, "length")]


def test_the_table_has_one_row_per_answer(tiny_lab, problems):
    found = sweep(tiny_lab, problems, BUDGETS, sampling=Sampling.greedy(), progress=False)
    table = found.to_pandas()
    assert len(table) == len(problems) * (len(BUDGETS) + 1)
    assert table[table.budget.isna()].thinking_tokens.eq(0).all()
    cut = table[table.stop == "budget"]
    assert len(cut) and (cut.thinking_tokens == cut.budget).all()
    assert set(table.level) == {"1", "2", "4", "7"}
    natural = [a.natural_tokens for a in found.attempts]
    assert all(tokens is None or tokens <= 40 for tokens in natural)


def counted(monkeypatch, interrupt_at=0):
    """Notes the replies that a sweep completes; interrupts it before one of them."""
    real, made = MODULE._attempt, []

    def attempt(*given):
        made.append(given)
        if len(made) == interrupt_at:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(MODULE, "_attempt", attempt)
    return made


def test_an_interrupted_sweep_resumes_from_its_file(tiny_lab, problems, tmp_path, monkeypatch):
    monkeypatch.setattr(MODULE, "BATCHES_PER_PART", 2)
    path = tmp_path / "runs" / "sweep.jsonl"
    options = {"sampling": Sampling.greedy(), "batch": 2, "progress": False, "path": path}
    whole = sweep(tiny_lab, problems, BUDGETS, **options | {"path": None})

    # Parts of 4 replies: the first is partly done.
    made = counted(monkeypatch, interrupt_at=3)
    part = sweep(tiny_lab, problems, BUDGETS, **options)
    assert len(part.attempts) == 2 and not part.complete
    assert set(part.attempts) < set(whole.attempts)
    assert "6 not run" in repr(part)
    assert Sweep.load(path) == part

    # An incomplete last line, as after a crash during writing.
    path.write_text(path.read_text("utf-8") + '{"problem": 3, "sam', "utf-8")
    assert Sweep.load(path) == part
    rest = sweep(tiny_lab, problems, BUDGETS, **options)
    assert len(made) == 3 + 6, "only the missing replies are kept"
    assert rest == whole == Sweep.load(path)
    assert sweep(tiny_lab, problems, BUDGETS, **options) == whole
    assert len(made) == 9


def test_a_part_thinks_again_as_a_whole_and_others_do_not(
    tiny_lab, problems, tmp_path, monkeypatch
):
    monkeypatch.setattr(MODULE, "BATCHES_PER_PART", 1)
    module = __import__("qwen3lab.thinking.branches", fromlist=["BranchedReplies"])
    real, sizes = module.BranchedReplies.steps, []

    def steps(self, budgets):
        sizes.append(len(self.prompts))
        return real(self, budgets)

    monkeypatch.setattr(module.BranchedReplies, "steps", steps)
    options = {"sampling": Sampling.greedy(), "batch": 4, "progress": False, "at_once": False}
    path = tmp_path / "sweep.jsonl"
    counted(monkeypatch, interrupt_at=6)
    sweep(tiny_lab, problems, [2, 9], **options, path=path)
    assert sizes == [4, 4]
    monkeypatch.undo()
    monkeypatch.setattr(MODULE, "BATCHES_PER_PART", 1)
    monkeypatch.setattr(module.BranchedReplies, "steps", steps)
    sizes.clear()
    assert sweep(tiny_lab, problems, [2, 9], **options, path=path).complete
    assert sizes == [4]


def test_the_file_of_another_sweep_is_an_error(tiny_lab, problems, tmp_path):
    path = tmp_path / "sweep.jsonl"
    sweep(tiny_lab, problems[:1], [2], path=path, progress=False)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="holds another run, with other budgets, seed: give"):
        sweep(tiny_lab, problems[:1], [3], seed=1, path=path, progress=False)
    assert path.read_bytes() == before
    path.write_text(json.dumps({"kind": "something else"}) + "\n", "utf-8")
    with pytest.raises(ValueError, match="does not begin as a file of"):
        sweep(tiny_lab, problems[:1], [2], path=path, progress=False)
    path.write_text("", "utf-8")
    with pytest.raises(ValueError, match="does not begin as a file of"):
        Sweep.load(path)


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ([], "there is no budget"),
        ([-1, 2], "a budget is -1: expected 0 thinking tokens or more"),
        ([4, 2], r"the budgets are \(4, 2\): expected ascending numbers"),
        ([True], "a budget is True: expected a whole number"),
        ([4, 4], "expected ascending numbers, each once"),
        ([2, 10_000], "a budget of 10000 thinking tokens does not fit"),
    ],
)
def test_invalid_budgets_are_errors(tiny_lab, problems, budgets, message):
    with pytest.raises(ValueError, match=message):
        sweep(tiny_lab, problems, budgets, progress=False)


def test_missing_problems_answers_and_samples_are_errors(tiny_lab, problems):
    with pytest.raises(ValueError, match="there is no problem"):
        sweep(tiny_lab, [], [1], progress=False)
    with pytest.raises(ValueError, match="problem 1 has no answer"):
        sweep(tiny_lab, [problems[0], Exercise("a", " ")], [1], progress=False)
    with pytest.raises(ValueError, match="samples is 0: expected 1 or more"):
        sweep(tiny_lab, problems, [1], samples=0, progress=False)


def test_a_model_without_thinking_tokens_is_an_error(tiny_lab):
    class Plain:
        eos_token_id, init_kwargs = 3, {}

        def convert_tokens_to_ids(self, token):
            return 0

        def convert_ids_to_tokens(self, token_id):
            return "a"

        def encode(self, text, *, add_special_tokens):
            return [0]

    lab = qwen3lab.Lab(tiny_lab.model, Plain(), "plain")
    with pytest.raises(ValueError, match="the tokenizer of plain has no <think> and </think>"):
        sweep(lab, [Exercise("a", "b")], [1], progress=False)


def test_thinking_sweep_is_the_function_not_the_module():
    assert callable(package_sweep)


@pytest.fixture(scope="module")
def opening(tiny_lab):
    """The same model with a prompt that ends with `<think>`, as that of Qwen3-Thinking-2507."""
    tokenizer = copy.deepcopy(tiny_lab.tokenizer)
    opens = "{%- if add_generation_prompt and enable_thinking is not false %}<think>\n{%- endif %}"
    tokenizer.chat_template += opens.replace("\n", "{{- '\\n' }}")
    return qwen3lab.Lab(tiny_lab.model, tokenizer, "opening")


@pytest.mark.parametrize("budget", [None, 0, 3])
def test_a_chat_is_the_same_with_the_think_token_in_the_prompt(tiny_lab, opening, problems, budget):
    options = {"sampling": Sampling.greedy(), "budget": budget}
    plain, found = (lab.chat(problems[3].question, **options) for lab in (tiny_lab, opening))
    assert found.prompt_ids == plain.prompt_ids + plain.token_ids[:2]
    assert found.token_ids == plain.token_ids[2:]
    for name in ("thinking", "answer", "thinking_tokens", "answer_tokens", "stop", "spans"):
        if name != "spans":
            assert getattr(found, name) == getattr(plain, name)
    assert {part: found.spans[part] for part in ("thinking", "answer")} == {
        part: plain.spans[part] for part in ("thinking", "answer")
    }


def test_a_sweep_is_the_same_with_the_think_token_in_the_prompt(tiny_lab, opening, problems):
    options = {"sampling": Sampling.greedy(), "progress": False}
    plain, found = (sweep(lab, problems[:4], BUDGETS, **options) for lab in (tiny_lab, opening))
    for mine, theirs in zip(found.attempts, plain.attempts, strict=True):
        assert (mine.thinking, mine.right) == (theirs.thinking, theirs.right)
        assert mine.natural_tokens == theirs.natural_tokens
        assert list(map(fields, mine.answers)) == list(map(fields, theirs.answers))


def test_cut_is_true_only_if_the_budget_ended_the_thinking(tiny_lab, problems):
    (attempt,) = sweep(
        tiny_lab,
        problems[3:4],
        [0, 3, 60],
        answer_tokens=1,
        sampling=Sampling.greedy(),
        progress=False,
    ).attempts
    assert {answer.stop for answer in attempt.answers} == {"length"}
    assert [answer.cut for answer in attempt.answers] == [True, True, False]
    whole = tiny_lab.chat(problems[3].question, sampling=Sampling.greedy())
    assert attempt.natural_tokens == whole.thinking_tokens


def test_prompt_tokens_are_counted_with_and_without_thinking(tiny_lab, problems):
    (attempt,) = sweep(tiny_lab, problems[:1], [5], progress=False).attempts
    messages = [{"role": "user", "content": problems[0].question}]
    lengths = [len(tiny_lab.token_ids(messages, thinking=mode)) for mode in (True, False)]
    assert lengths[0] < lengths[1]
    assert [attempt.prompt_tokens_for(budget) for budget in (5, None)] == lengths


@pytest.mark.parametrize("other", [{"level": "hard"}, {"grader": "last number"}])
def test_a_sweep_does_not_resume_with_another_grader_or_level(tiny_lab, tmp_path, other):
    path = tmp_path / "sweep.jsonl"
    options = {"sampling": Sampling.greedy(), "progress": False, "path": path}
    sweep(tiny_lab, [Exercise("3+2=?", "⑤")], [5], **options)
    with pytest.raises(ValueError, match="with other problems"):
        sweep(tiny_lab, [Exercise("3+2=?", "⑤", **other)], [5], **options)


def test_a_sweep_does_not_resume_with_other_weights(tiny_lab, tmp_path):
    path = tmp_path / "sweep.jsonl"
    options = {"sampling": Sampling.greedy(), "progress": False, "path": path}
    sweep(tiny_lab, [Exercise("3+2=?", "⑤")], [5], **options)
    half = qwen3lab.load("tiny-moe", dtype="bfloat16", device="cpu")
    with pytest.raises(ValueError, match="with other weights"):
        sweep(half, [Exercise("3+2=?", "⑤")], [5], **options)


def test_a_sweep_does_not_resume_with_other_values_of_the_weights(tmp_path):
    path, lab = tmp_path / "sweep.jsonl", qwen3lab.load("tiny-dense", device="cpu")
    options = {"sampling": Sampling.greedy(), "progress": False, "path": path}
    sweep(lab, [Exercise("3+2=?", "⑤")], [5], **options)
    before = path.read_bytes()
    with torch.no_grad():
        next(lab.model.parameters())[7, 3] += 1
    with pytest.raises(ResultsError, match="with other weights_and_tokens"):
        sweep(lab, [Exercise("3+2=?", "⑤")], [5], **options)
    assert path.read_bytes() == before


def test_a_part_of_which_some_is_done_adds_only_the_rest(tiny_lab, problems, tmp_path, monkeypatch):
    path = tmp_path / "sweep.jsonl"
    options = {"sampling": Sampling.greedy(), "batch": 3, "progress": False, "path": path}
    whole = sweep(tiny_lab, problems[:6], [2], **options)
    data = path.read_bytes()
    path.write_bytes(data[: -len(data.split(b"\n")[-2]) - 20])
    made = counted(monkeypatch)
    assert sweep(tiny_lab, problems[:6], [2], **options) == whole
    assert len(made) == 2
    assert path.read_bytes() == data


def test_a_problem_is_in_the_file_before_the_longest_of_its_batch_has_ended(
    tiny_lab, problems, tmp_path, monkeypatch
):
    path = tmp_path / "sweep.jsonl"
    module = __import__("qwen3lab.thinking.branches", fromlist=["STEPS_BETWEEN_CHECKS"])
    monkeypatch.setattr(module, "STEPS_BETWEEN_CHECKS", 1)
    real, seen = module.BranchedReplies.steps, []

    def watched(self, budgets):
        for complete in real(self, budgets):
            seen.append(path.read_bytes().count(b"\n") - 1)
            yield complete

    monkeypatch.setattr(module.BranchedReplies, "steps", watched)
    options = {"sampling": Sampling.greedy(), "at_once": False, "progress": False, "path": path}
    found = sweep(tiny_lab, problems, [200], batch=len(problems), **options)
    # A reply's line follows the step of its end token; the last is written after the last step.
    ends = sorted(attempt.answers[0].reply_tokens for attempt in found.attempts)
    assert ends[0] < ends[-1]
    assert [sum(end < step for end in ends) for step in range(1, ends[-1] + 1)] == seen[: ends[-1]]


def test_the_progress_bar_counts_problems(tiny_lab, problems, capsys):
    sweep(tiny_lab, problems[:3], [0, 2], sampling=Sampling.greedy(), answer_tokens=3)
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("tokens", "expected"),
    # Keys and values in float32, of 6 layers and 2 heads of 32 values, are 3,072 bytes a token. An
    # eighth of 1 GiB, less 11.5 MB of weights, holds 43,200 tokens.
    [(100, 32), (2_000, 21), (10_000, 4), (40_000, 1), (100_000, 1)],
)
def test_a_batch_has_as_many_replies_as_its_memory_holds(tiny_lab, monkeypatch, tokens, expected):
    module = __import__("qwen3lab.generation.batch_size", fromlist=["_memory"])
    monkeypatch.setattr(module, "_memory", lambda device: 2**30)
    assert module.replies_at_once(tiny_lab.model, tokens) == expected
