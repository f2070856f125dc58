from tests.interrupts.guide import CHINESE_PAGE, PAGE, chinese_table, filled
from tests.interrupts.jobs import JOBS


def test_the_guide_shows_the_promises_that_are_tested():
    text = PAGE.read_text("utf-8")
    assert filled(text) == text, "run python -m tests.interrupts.guide"
    assert text.count("\n| ") == len(JOBS) + 2


def test_the_chinese_guide_shows_the_same_promises():
    text = CHINESE_PAGE.read_text("utf-8")
    assert filled(text, chinese_table()) == text, "run python -m tests.interrupts.guide"
    assert text.count("\n| ") == len(JOBS) + 2


def test_each_job_is_named_once_and_promises_something():
    assert len({job.name for job in JOBS}) == len(JOBS)
    assert all(job.interrupted and job.killed for job in JOBS)
    assert sum(job.survives for job in JOBS) >= 8
