"""progress.json: what it keeps, and what damages it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pylab_container.notebook.progress import Progress, Record


def test_two_labs_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: Progress(tmp_path).attempted(f"04.{number}", met=1, of=2), range(40)))
        list(pool.map(lambda _: Progress(tmp_path).attempted("05.1", met=0, of=2), range(40)))
    record = Progress(tmp_path).read()
    assert len(record.exercises) == 41
    assert record.exercises["05.1"].attempts == 40


def test_a_worse_attempt_does_not_replace_a_better_one(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    for met in (1, 3, 2):
        work = progress.attempted("04.2", met=met, of=4)
    assert (work.attempts, work.met, work.solved) == (3, 3, False)


def test_an_exercise_with_other_criteria_starts_again(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    progress.attempted("04.2", met=4, of=4)
    assert progress.attempted("04.2", met=1, of=5).met == 1


def test_a_damaged_file_is_kept_and_the_new_one_works(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    for damage in (b"", b"{", b"[]", b'{"exercises": {"04.2": 1}}', b"\xff\xfe"):
        progress.path.write_bytes(damage)
        assert progress.read() == Record()
        progress.predicted("04.a", "both")
        assert progress.read().predictions["04.a"].choice == "both"
        assert (tmp_path / "progress.json.damaged").read_bytes() == damage


def test_one_lab_is_forgotten(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    progress.attempted("04.2", met=1, of=4)
    progress.attempted("05.1", met=1, of=1)
    progress.predicted("04.a", "both")
    progress.forget("04")
    assert (list(progress.read().exercises), progress.read().predictions) == (["05.1"], {})


def test_hints_come_one_after_the_other(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    assert [progress.hinted("04.2", of=3) for _ in range(4)] == [1, 2, 3, 3]
