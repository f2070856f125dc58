"""The training log is read as it was written."""

from qwen3lab.tiny.training.training_log import LOG, append_log, read_log, write_log


def test_reports_are_read_in_the_order_of_writing(tmp_path) -> None:
    reports = [{"step": step, "loss": {"a": 0.1 * step}} for step in (50, 100, 150)]
    for report in reports:
        append_log(tmp_path, report)
    assert read_log(tmp_path) == reports
    assert len((tmp_path / LOG).read_text().splitlines()) == 3


def test_a_log_can_be_replaced(tmp_path) -> None:
    for step in (50, 100):
        append_log(tmp_path, {"step": step})
    before = (tmp_path / LOG).read_bytes()
    write_log(tmp_path, read_log(tmp_path))
    assert (tmp_path / LOG).read_bytes() == before
    write_log(tmp_path, read_log(tmp_path)[:1])
    assert read_log(tmp_path) == [{"step": 50}]


def test_a_folder_without_a_log_has_no_reports(tmp_path) -> None:
    assert read_log(tmp_path) == []
