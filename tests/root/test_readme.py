"""The README's example runs as printed."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from pylab_container import Engine
from pylab_container.host import programs


def test_the_python_example_runs_as_printed(
    repository: Path, busybox_tar: Path, tmp_path: Path, engine: Engine
) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (repository / "README.md").read_text(), re.DOTALL)
    shutil.copy(busybox_tar, tmp_path / "base.tar")
    # The example's data root is the fixture's, which checks that nothing is left.
    script = f"import os; os.chdir({str(tmp_path)!r})\n" + example.replace("build/demo", str(engine.data_root))
    done = programs.run([sys.executable, "-c", script], environment={**os.environ, "PYTHONPATH": str(repository)})
    assert "/diff/hello" in done.output
    assert "sleep 1000" in done.output
    assert [image.tags for image in engine.images.list()] == [["hello:v1"], ["debian:12"]]
    assert engine.containers.list(all=True) == []


def test_the_map_of_labs_names_every_lab(repository: Path) -> None:
    named = re.findall(r"\(labs/(\w+\.ipynb)\)", (repository / "README.md").read_text())
    assert named == sorted(path.name for path in (repository / "labs").glob("*.ipynb"))
