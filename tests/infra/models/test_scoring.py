"""A cached loss belongs to its source, whatever lies in the file that keeps it."""

from infra.models.scoring import cached_loss


def loss_of(file, source, loss):
    """The loss, and whether it was measured."""
    done = []

    def measure():
        done.append(True)
        return loss

    return cached_loss(file, source, measure), bool(done)


def test_a_loss_is_measured_once_for_each_source(tmp_path):
    file = tmp_path / "work" / "figure.json"
    assert loss_of(file, "a", 1.5) == (1.5, True)
    assert loss_of(file, "a", 9.0) == (1.5, False)
    assert loss_of(file, "b", 2.0) == (2.0, True)
    assert loss_of(file, "b", 9.0) == (2.0, False)
    assert loss_of(file, "a", 1.5) == (1.5, True)


def test_the_loss_of_a_damaged_file_is_measured_again(tmp_path):
    file = tmp_path / "figure.json"
    for content in ("", "{", "[]", '"a"', "{}", '{"source": "a"}', '{"source": "a", "figure": "x"}', "\xff"):
        file.write_text(content, encoding="latin-1")
        assert loss_of(file, "a", 1.5) == (1.5, True), content
        assert loss_of(file, "a", 9.0) == (1.5, False), content


def test_a_loss_that_cannot_be_kept_is_measured_each_time(tmp_path):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        assert loss_of(tmp_path / "file" / "figure.json", "a", 1.5) == (1.5, True)
