"""The build reports of real builds, as a notebook shows them."""

from __future__ import annotations

from pathlib import Path

from pylab_container import Engine
from pylab_container.images.image import Image
from pylab_container.notebook.builds import build_table, report_view

DOCKERFILE = """FROM busybox:1 AS first
RUN touch /a /b
RUN rm /a; echo more > /b

FROM busybox:1
COPY --from=first /b /b
CMD ["true"]
"""


def build(engine: Engine, directory: Path) -> Image:
    directory.mkdir(exist_ok=True)
    (directory / "Dockerfile").write_text(DOCKERFILE)
    return engine.images.build(directory, tag="built:1", network_mode="none")


def test_a_report_tells_stages_and_how_many_files_each_step_changed(
    engine: Engine, image: Image, tmp_path: Path
) -> None:
    report = build(engine, tmp_path / "context").build_report
    assert report is not None
    rows = build_table(report).rows
    assert [row[1] for row in rows] == ["first"] * 3 + ["stage-1"] * 3
    assert [row[-1] for row in rows] == ["", "+2 ~0 -0", "+0 ~1 -1", "", "+1 ~0 -0", ""]
    assert "<svg" in report_view(report)._repr_html_()


def test_a_report_outlives_its_image(engine: Engine, image: Image, tmp_path: Path) -> None:
    built = build(engine, tmp_path / "context")
    assert built.build_report is not None
    engine.images.remove("built:1")
    engine.images.prune()
    assert build_table(built.build_report).rows[4][-1] == "gone"
