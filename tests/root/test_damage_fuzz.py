"""Random damage: one file of a data root is damaged, or two are exchanged, and thirty commands follow.

Whatever the damage, nothing else is lost by the commands and by the repair, no command ends with a traceback, a command
that fails because of it names the file and fsck, fsck finds it, and after the repair the listings work.

What commands change by themselves is known from the same commands on an undamaged copy of the data root.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec import Struct
from msgspec.structs import replace

from pylab_container import Engine
from pylab_container.host import programs
from pylab_container.store.drivers import DRIVERS
from tests.support import damage
from tests.support.commands import run_in_process
from tests.support.contexts import write_context

READING = (
    *("ps -a", "ps -aqs", "images", "images -a", "network ls", "volume ls", "system df", "info", "inspect mine"),
    *("inspect other", "image inspect base:1", "image inspect built:1", "network inspect lab", "volume inspect data"),
    *("history built:1", "diff mine", "diff other", "port mine", "logs other", "network inspect bridge", "ps -n 1"),
    *("ps -a --filter volume=data", "volume ls --filter dangling=true", "images --filter dangling=true", "save base:1"),
    *("events --since 1h --until 1s", "ps -a --filter network=lab", "export mine", "ps -a --no-trunc", "system df -v"),
)
WRITING = (
    *("create --name new base:1 sh", "create --name newer -v data:/x --network lab built:1 sh", "tag base:1 extra:1"),
    *("rename other another", "commit mine made:1", "volume create third", "rm victim", "rmi spare:1"),
    *("volume rm second", "update --memory 64m mine", "build -q -t again:1 CONTEXT"),
    *("ps -a", "images", "volume ls", "network ls", "system df", "diff mine", "inspect mine", "history built:1"),
    *("image prune -f", "volume prune -f", "builder prune -f", "container prune -f --filter label=none"),
    *("image prune -af --filter label=none", "ps -aq", "images -q", "volume ls -q", "network ls -q", "info", "ps -aqs"),
)
FORCING = (
    *("rm -f victim", "rmi -f spare:1", "rm -vf victim", "volume rm -f second", "volume prune -f", "ps -a", "images"),
    *("volume ls", "network ls", "system df", "rm -v mine", "images -a", "ps -aqs", "rmi built:1", "volume rm data"),
    *(
        "rm other",
        "ps -a",
        "images",
        "volume ls",
        "system prune -f --filter label=none",
        "builder prune -af",
        "rmi base:1",
    ),
    *(
        "volume prune -f --filter all=true",
        "ps -a",
        "images",
        "system df",
        "info",
        "volume ls -q",
        "ps -aq",
        "images -q",
    ),
)
SEQUENCES = {"reading": READING, "writing": WRITING, "forcing": FORCING}
SHARES = 6
DAMAGES = 200
STRESS_DAMAGES = 5000
AFTER = ("ps -a", "images", "network ls", "volume ls")


class Expected(Struct, frozen=True):
    """The effects of a sequence of commands on an undamaged data root.

    kept    paths that it does not change
    failed  the commands that fail
    """

    kept: frozenset[str]
    failed: frozenset[str]


class Template(Struct, frozen=True):
    """A data root to copy and damage."""

    root: Path
    driver: str
    context: Path
    expected: Mapping[str, Expected]

    def run(self, root: Path, line: str) -> tuple[int, str, str]:
        """Run a command on a copy; its exit status, standard output and standard error."""
        words = [str(self.context) if word == "CONTEXT" else word for word in line.split()]
        done = run_in_process(["--root", str(root), *words], cwd=self.context)
        assert "Traceback" not in done.stderr, f"{line}: {done.stderr}"
        return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module", params=DRIVERS)
def template(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, nothing_left_behind: None
) -> Template:
    """A data root on one storage driver, and the effects of the sequences on it."""
    top = tmp_path_factory.mktemp("template")
    (top / "base.tar").write_bytes(damage.small_archive())
    context = write_context(top / "context", "FROM base:1\nCOPY Dockerfile /\nLABEL a=b\n")
    damage.fill(Engine(top / "root", storage_driver=str(request.param)), top / "base.tar", context)
    plain = Template(top / "root", str(request.param), context, {})
    return replace(plain, expected={name: _expected(plain, name) for name in SEQUENCES})


def _copy(root: Path, place: Path) -> Path:
    programs.run(["cp", "-a", "--reflink=auto", str(root), str(place)])
    return place


def _expected(template: Template, name: str) -> Expected:
    before, root = damage.manifest(template.root), _copy(template.root, template.root.with_name(name))
    failed = [line for line in SEQUENCES[name] if template.run(root, line)[0] != 0]
    changed = set(damage.changed(before, damage.manifest(root)))
    shutil.rmtree(root)
    return Expected(frozenset(set(before) - changed), frozenset(failed))


@pytest.mark.parametrize("share", range(SHARES))
def test_random_damage_disables_what_it_hits_and_nothing_else(
    template: Template, tmp_path: Path, share: int, *, stress: bool, seed: int
) -> None:
    count = (STRESS_DAMAGES if stress else DAMAGES) // (SHARES * len(DRIVERS)) + 1
    for number in range(count):
        chance = random.Random(
            f"{seed if stress else 0} {template.root.parent.name if stress else ''} {share} {number}"
        )
        name = chance.choice(list(SEQUENCES))
        root = _copy(template.root, tmp_path / "root")
        (tmp_path / "outside").write_text("x")
        done = damage.damage(root, chance)
        try:
            _check(template, root, name, done)
        except BaseException as error:
            error.add_note(f"after {name} commands on a data root with the damage #{number}: {done}")
            raise
        assert (tmp_path / "outside").read_text() == "x"
        shutil.rmtree(root)


def _check(template: Template, root: Path, name: str, done: damage.Damage) -> None:
    before, expected = damage.manifest(root), template.expected[name]
    reported = False
    for line in SEQUENCES[name]:
        status, _, errors = template.run(root, line)
        if status and line not in expected.failed and not reported:  # later ones may fail because this one did
            assert any(str(Path(path).parent) in errors for path in done.paths), f"{line}: {errors}"
            assert "fsck" in errors, f"{line}: {errors}"
        reported = reported or "fsck" in errors
    kept = {path: before[path] for path in expected.kept if path in before and path not in done.paths}
    after = damage.manifest(root)
    assert list(damage.changed(kept, after)) == []
    remains = all(after.get(path) == before[path] for path in done.paths)
    status, _, _ = template.run(root, "system fsck")
    assert status == 1 or not (reported and remains), "fsck finds nothing"
    _check_repair(template, root, kept, done)


def _check_repair(template: Template, root: Path, kept: damage.Manifest, done: damage.Damage) -> None:
    _, repaired, _ = template.run(root, "system fsck --repair")
    records = {str(Path(path).parent) for path in done.paths if path.startswith("containers/")}
    lost = damage.changed(kept, damage.manifest(root))
    assert [path for path in lost if str(Path(path).parent) not in records] == [], repaired
    _, left, _ = template.run(root, "system fsck")
    assert "repaired" not in left
    for line in AFTER:
        status, _, errors = template.run(root, line)
        assert status == 0, f"{line} after the repair: {errors}"
        assert errors == "" or "found: " in left, f"{line} after the repair: {errors}"
