from qwen3lab.widgets.components.layout import heading
from tests.reference import small_config


def test_a_folder_is_called_by_its_last_part_with_the_whole_path_on_hover():
    shown = heading("/models/Qwen3-0.6B", small_config()).value
    assert '<span title="/models/Qwen3-0.6B">Qwen3-0.6B</span> ·' in shown
    assert (
        'class="q3-subtitle">Qwen/Qwen3-0.6B ·' in heading("Qwen/Qwen3-0.6B", small_config()).value
    )


def test_a_name_is_escaped_wherever_it_is_shown():
    for name in ("<b>", "/models/<b>"):
        assert "<b>" not in heading(name, small_config()).value
