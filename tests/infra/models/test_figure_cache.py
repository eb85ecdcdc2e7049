"""A remembered figure is the one of its source, whatever lies where it is kept."""

from infra.models.figure_cache import remembered


def worked_out(file, source, figure):
    """The figure, and whether it was worked out."""
    done = []

    def work_out():
        done.append(True)
        return figure

    return remembered(file, source, work_out), bool(done)


def test_a_figure_is_worked_out_once_for_each_source(tmp_path):
    file = tmp_path / "work" / "figure.json"
    assert worked_out(file, "a", 1.5) == (1.5, True)
    assert worked_out(file, "a", 9.0) == (1.5, False)
    assert worked_out(file, "b", 2.0) == (2.0, True)
    assert worked_out(file, "b", 9.0) == (2.0, False)
    assert worked_out(file, "a", 1.5) == (1.5, True)


def test_what_is_damaged_is_worked_out_again(tmp_path):
    file = tmp_path / "figure.json"
    for content in ("", "{", "[]", '"a"', "{}", '{"source": "a"}', '{"source": "a", "figure": "x"}', "\xff"):
        file.write_text(content, encoding="latin-1")
        assert worked_out(file, "a", 1.5) == (1.5, True), content
        assert worked_out(file, "a", 9.0) == (1.5, False), content


def test_where_nothing_can_be_kept_it_is_worked_out_each_time(tmp_path):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert worked_out(tmp_path / "file" / "figure.json", "a", 1.5) == (1.5, True)
