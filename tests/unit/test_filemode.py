"""What COPY --chmod may say, and what becomes of a file's mode."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from pylab_container.dockerfile.filemode import FileMode
from pylab_container.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "mode"), [("755", 0o755), ("0644", 0o644), ("4755", 0o4755), ("0", 0), ("07777", 0o7777)]
)
def test_an_octal_mode_replaces_all_bits(text: str, mode: int) -> None:
    assert FileMode.parse(text).apply(0o2123, is_directory=False) == mode


SYMBOLIC = """u=rwX,go-w +x a+x g=u o=g go= u+s g+s +s +t a-x ug=rw,o=r u=rwx,go=rx u-x,g+w =r o+X X=x
u=g,o=u u+rw-x go=u-w a= u=rws""".split()


@pytest.mark.parametrize("text", [text for text in SYMBOLIC if text != "X=x"])
@pytest.mark.parametrize("mode", [0o644, 0o755, 0o600, 0o070, 0o777, 0])
@pytest.mark.parametrize("is_directory", [False, True])
def test_a_symbolic_mode_changes_what_chmod_would(tmp_path: Path, text: str, mode: int, *, is_directory: bool) -> None:
    path = tmp_path / "x"
    if is_directory:
        path.mkdir()
    else:
        path.touch()
    path.chmod(mode)
    subprocess.run(["sh", "-c", f"umask 0; exec chmod -- {text} {path}"], check=True)
    assert oct(FileMode.parse(text).apply(mode, is_directory=is_directory)) == oct(os.stat(path).st_mode & 0o7777)


@pytest.mark.parametrize(
    "text", ["", "9", "888", "77777", "08", "0o755", "755x", "u", "u+z", "rwx", "u=rw,", ",", "+x,y", "１"]
)
def test_what_is_no_mode_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInput, match="invalid chmod parameter") as caught:
        FileMode.parse(text)
    assert "644" in caught.value.hint
