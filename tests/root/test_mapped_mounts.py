"""Layers with mapped owners where mounts are shared, as systemd makes them and containers of this machine do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from pylab_container.host import idmap
from pylab_container.store import overlayfs

base = Path(sys.argv[1])
overlayfs.mount(base, "merged", lowers=["lower"], upper="upper", work="work", ids=idmap.IdMap(100_000, 100_000))
print((base / "merged/file").stat().st_uid, sorted(entry.name for entry in base.iterdir()))
"""


def test_mapped_layers_stay_mounted_where_mounts_are_shared(tmp_path: Path, repository: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower" / "file").touch()
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "shared", sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True, text=True, cwd=repository,
    )  # fmt: skip
    assert done.stdout == "100000 ['lower', 'merged', 'upper', 'work']\n", done.stderr
    assert not os.path.ismount(tmp_path / "merged")
