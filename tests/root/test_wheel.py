"""The wheel, in an environment that has nothing but its base dependencies.

Building and installing it, with four libraries from pip's cache or the index, takes seconds: nothing less shows that
an installation works. Both are done once.
"""

from __future__ import annotations

import email.message
import email.parser
import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pylab_container
from pylab_container import Engine
from pylab_container.host.extras import LIBRARIES

BASE = {"fastcrc", "isal", "msgspec", "zstandard"}

MAKE_AN_IMAGE = """
import sys
from pathlib import Path
from pylab_container import Engine

root, tar, context, output = sys.argv[1:]
engine = Engine(root)
base = engine.images.import_(tar, "busybox:1")
built = engine.images.build(context, tag="built:1")
container = engine.containers.create(built, ["true"], network_mode="none")
container.put_archive("/srv", Path(context, "more.tar").read_bytes())
container.commit("committed:1", changes=["ENV LATER=2"])
container.remove()
engine.images.save("committed:1", output)
"""


@pytest.fixture(scope="module")
def worked_in(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project, with a link below build/ (as a layer has it) to a tree deeper than a walk can go."""
    project, elsewhere = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("elsewhere")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=repository, capture_output=True, check=True).stdout
    packed = subprocess.run(
        ["tar", "-c", "--null", "-T", "-"], cwd=repository, input=names, capture_output=True, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(project)], input=packed.stdout, check=True)
    deep = "/".join(["d"] * (sys.getrecursionlimit() + 100))
    subprocess.run(["mkdir", "-p", deep], cwd=elsewhere, check=True)  # os.makedirs is recursive, as the walk is
    project.joinpath("build").mkdir()
    project.joinpath("build/run").symlink_to(elsewhere)
    yield project
    subprocess.run(["rm", "-rf", str(elsewhere)], check=True)  # pytest's own removal is recursive


@pytest.fixture(scope="module")
def distributions(worked_in: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the source distribution, and with the wheel that was built out of it."""
    directory = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(directory), str(worked_in)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    (path,) = distributions.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    """The wheel's METADATA (core metadata specification)."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.parser.Parser().parsestr(archive.read(name).decode())


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which only the wheel was installed."""
    place = tmp_path_factory.mktemp("environment")
    venv.create(place, with_pip=False, symlinks=True)
    interpreter = place / "bin/python"
    environment = dict(os.environ)
    for name in ("HTTPS_PROXY", "https_proxy"):  # conftest.py has replaced it
        environment[name] = environment["OUTER_HTTPS_PROXY"]
    command = [sys.executable, "-m", "pip", "--python", str(interpreter), "install", "--quiet", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return interpreter


def test_the_wheel_makes_commits_and_saves_an_image_with_an_empty_path(
    python: Path, engine: Engine, busybox_tar: Path, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "note").write_text("hello\n")
    (context / "Dockerfile").write_text("FROM busybox:1\nENV A=1\nWORKDIR /srv\nCOPY note .\n")
    with tarfile.open(context / "more.tar", "w") as archive:
        archive.add(context / "note", "more")
    saved = tmp_path / "saved.tar"

    command: list[str | Path] = [python, "-c", MAKE_AN_IMAGE, engine.data_root, busybox_tar, context, saved]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": ""})

    assert (done.returncode, done.stderr) == (0, "")
    with tarfile.open(saved) as archive:

        def read(name: str) -> bytes:
            stream = archive.extractfile(name)
            assert stream is not None
            return stream.read()

        (entry,) = json.loads(read("manifest.json"))
        config = json.loads(read(entry["Config"]))["config"]
    assert entry["RepoTags"] == ["committed:1"]
    assert len(entry["Layers"]) == 4  # the base, WORKDIR, COPY and the commit
    assert config["WorkingDir"] == "/srv"
    assert {"A=1", "LATER=2"} <= set(config["Env"])
    image = engine.images.get("committed:1")
    container = engine.containers.create(image, ["true"], network_mode="none")
    for name in ("note", "more"):
        assert b"hello\n" in b"".join(container.get_archive(f"/srv/{name}")[0])


def test_only_the_base_is_installed_with_the_wheel(python: Path) -> None:
    script = "import importlib.metadata as m; print(*sorted(one.name for one in m.distributions()))"
    done = subprocess.run([python, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == BASE | {"pylab-container"}


def test_labctr_of_the_bare_wheel_names_the_extra(python: Path) -> None:
    done = subprocess.run([python.with_name("labctr"), "images"], capture_output=True, text=True, check=False)
    expected = 'Error: the Python library click is not installed: pip install "pylab-container[cli]"\n'
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_the_wheel_describes_itself(metadata: email.message.Message) -> None:
    assert metadata["Name"] == "pylab-container"
    assert metadata["Version"] == pylab_container.__version__
    assert metadata["License-Expression"] == "MIT"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "# pylab-container" in str(metadata.get_payload())
    assert "oci" in metadata["Keywords"].split(",")
    classifiers = metadata.get_all("Classifier") or []
    assert {"Typing :: Typed", "Operating System :: POSIX :: Linux", "Framework :: Jupyter"} <= set(classifiers)
    urls = metadata.get_all("Project-URL") or []
    assert urls
    assert all(re.fullmatch(r"[^,]{1,32}, https://\S+", url) for url in urls)


def test_the_wheel_requires_little_and_offers_extras(metadata: email.message.Message) -> None:
    required = metadata.get_all("Requires-Dist") or []
    assert {re.split(r"[^\w.-]", one)[0] for one in required if "extra ==" not in one} == BASE
    assert set(metadata.get_all("Provides-Extra") or []) == {*LIBRARIES, "dev"}
    assert not [one for one in required if one.startswith("rich")]


def test_the_wheel_holds_the_package_and_says_that_it_is_typed(wheel: Path, repository: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
    sources = {str(path.relative_to(repository)) for path in (repository / "pylab_container").rglob("*.py")}
    assert sources <= files
    assert "pylab_container/py.typed" in files
    assert {name.split("/")[0] for name in files - sources} == {
        "pylab_container",
        f"pylab_container-{pylab_container.__version__}.dist-info",
    }
