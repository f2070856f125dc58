import qwen3lab
from qwen3lab import tiny


def test_a_dense_model_is_replaced_by_one_with_experts_and_a_sentence_says_so(capsys):
    lab = tiny.with_experts(qwen3lab.load("tiny-dense", device="cpu"))
    assert (lab.name, lab.config.is_moe) == ("tiny-moe", True)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "tiny-dense is a dense model and has no experts" in said


def test_a_model_with_experts_is_kept_without_a_word(tiny_lab, capsys):
    assert tiny.with_experts(tiny_lab) is tiny_lab
    assert capsys.readouterr().out == ""
