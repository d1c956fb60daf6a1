"""The overlay2 graph driver: one directory a layer, joined by overlay mounts.

    overlay2/
    ├── <cache id>/            one layer; the id is random and says nothing about content
    │   ├── diff/              what this layer adds, changes and hides
    │   ├── link               the layer's short name, 26 letters and digits
    │   ├── lower              "l/<link of parent>:l/<link of its parent>:…"; the lowest layer has none
    │   ├── work/              overlayfs's own scratch space; the lowest layer has none
    │   ├── merged/            where the joined view is mounted, only while somebody uses it
    │   └── committed          empty; written once a layer has a child and must not change again
    ├── <cache id>-init/       per container: files that are mounted over, such as etc/hosts
    └── l/<link> -> ../<cache id>/diff

The driver knows no images and no containers, only directories that lie on each other.
Who may write: everything below one <cache id> belongs to whoever created it until it has
a child. Format: moby daemon/graphdriver/overlay2 (20.10). Kernel side:
Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

from pylab_container.errors import CorruptStore, InvalidInput, NotRoot, RuntimeFailed
from pylab_container.formats.events import Emit, OverlayMounted, OverlayUnmounted, ignore
from pylab_container.host import linux
from pylab_container.host.files import remove_tree

MOST_LAYERS = 128
"""As in moby: lower links of this many layers still fit in one page of mount options."""

_PARAMETERS = Path("/sys/module/overlay/parameters")


class Overlay2:
    """The driver for one overlay2/ directory, which it creates.

    Two processes may use one directory at once: every layer is created under a new name.
    """

    name = "overlay2"

    def __init__(self, root: Path, *, emit: Emit = ignore) -> None:
        self.root = root
        self._emit = emit
        self._make_directory(root, 0o710)
        self._make_directory(root / "l", 0o700)

    @staticmethod
    def _make_directory(path: Path, mode: int) -> None:
        path.mkdir(parents=True, exist_ok=True, mode=mode)

    def create(self, cache_id: str, parent: str | None) -> Path:
        """Make an empty layer on top of parent (None: at the bottom) and return its diff directory."""
        lowers = [] if parent is None else [f"l/{self._link(parent)}", *self.lowers(parent)]
        if len(lowers) >= MOST_LAYERS:
            raise InvalidInput(
                f"the image would have more than {MOST_LAYERS} layers", hint="join some RUN instructions with &&"
            )
        directory = self.root / cache_id
        directory.mkdir(mode=0o710)
        (directory / "diff").mkdir(mode=0o755)
        (directory / "diff").chmod(0o755)
        link = base64.b32encode(secrets.token_bytes(17)).decode()[:26]
        (self.root / "l" / link).symlink_to(f"../{cache_id}/diff")
        (directory / "link").write_text(link)
        if parent is not None:
            (directory / "work").mkdir(mode=0o700)
            (self.root / parent / "committed").touch(mode=0o600)
            (directory / "lower").write_text(":".join(lowers))
        return directory / "diff"

    def diff_path(self, cache_id: str) -> Path:
        """The directory with what the layer itself adds, changes and hides."""
        return self.root / cache_id / "diff"

    def lowers(self, cache_id: str) -> list[str]:
        """The layers below as "l/<link>", the uppermost first."""
        try:
            return (self.root / cache_id / "lower").read_text().split(":")
        except FileNotFoundError:
            return []

    def mount(self, cache_id: str) -> Path:
        """Join the layer with all below it and return the merged directory.

        Mounting what is mounted changes nothing. Raises NotRoot, RuntimeFailed.
        """
        directory = self.root / cache_id
        lowers = self.lowers(cache_id)
        if not lowers:
            return directory / "diff"  # nothing below: the layer is its own view
        merged = directory / "merged"
        merged.mkdir(exist_ok=True, mode=0o700)
        if os.path.ismount(merged):
            return merged
        options = self._options(cache_id, lowers, str(self.root) + "/")
        if len(options) < os.sysconf("SC_PAGE_SIZE"):
            self._mount(str(merged), options)
        else:
            options = self._options(cache_id, lowers, "")
            _in_directory(self.root, lambda: self._mount(f"{cache_id}/merged", options))
        self._emit(OverlayMounted(cache_id, str(merged), options))
        return merged

    def unmount(self, cache_id: str) -> None:
        """Take the merged view away. Unmounting what is not mounted changes nothing."""
        merged = self.root / cache_id / "merged"
        if os.path.ismount(merged):
            # Lazily: a shell of the student's that stands in merged/ must not block the rest.
            linux.umount(str(merged), linux.MNT_DETACH)
            self._emit(OverlayUnmounted(cache_id, str(merged)))
        with contextlib.suppress(FileNotFoundError):
            merged.rmdir()

    def is_mounted(self, cache_id: str) -> bool:
        """Whether somebody looks at the merged view now."""
        return os.path.ismount(self.root / cache_id / "merged")

    def remove(self, cache_id: str) -> None:
        """Delete a layer that nothing lies on. Deleting what is not there changes nothing."""
        directory = self.root / cache_id
        with contextlib.suppress(FileNotFoundError, CorruptStore):
            (self.root / "l" / self._link(cache_id)).unlink()
        self.unmount(cache_id)
        with contextlib.suppress(FileNotFoundError):
            remove_tree(directory)

    def adopt(self, cache_id: str, source: str) -> None:
        """Take the files of the layer source as those of cache_id: a rename, whatever their size.

        source keeps existing, empty; it must not be mounted. The parents must be the same.
        """
        target, origin = self.diff_path(cache_id), self.diff_path(source)
        target.rmdir()
        origin.rename(target)
        origin.mkdir(mode=0o755)

    def _link(self, cache_id: str) -> str:
        try:
            return (self.root / cache_id / "link").read_text()
        except FileNotFoundError as error:
            raise CorruptStore(f"the layer directory overlay2/{cache_id} is missing or has no link") from error

    def _options(self, cache_id: str, lowers: list[str], prefix: str) -> str:
        below = ":".join(prefix + lower for lower in lowers)
        own = f"{prefix}{cache_id}"
        return f"{_switched_off()}lowerdir={below},upperdir={own}/diff,workdir={own}/work"

    def _mount(self, target: str, options: str) -> None:
        try:
            linux.mount("overlay", target, "overlay", 0, options)
        except OSError as error:
            raise _explain(error, target, options) from error


def _switched_off() -> str:
    """Options that turn off what a kernel may do by default and image layers cannot express.

    index and metacopy put their own bookkeeping into upper directories, redirect_dir
    renames directories without copying them: a layer's diff would no longer tell the whole story.
    """
    wanted = ""
    for name in ("index", "metacopy", "redirect_dir"):
        with contextlib.suppress(OSError):
            if (_PARAMETERS / name).read_text().strip() in ("Y", "on"):
                wanted += f"{name}=off,"
    return wanted


def _explain(error: OSError, target: str, options: str) -> RuntimeFailed:
    if error.errno == errno.EPERM:
        return NotRoot(
            f"the kernel does not let this process mount {target}", hint="run as root, on a kernel of your own"
        )
    if error.errno == errno.ENODEV:
        return RuntimeFailed("this kernel has no overlay file system", hint="modprobe overlay")
    hint = "an upper directory cannot lie on overlay, NFS or a folder shared into a VM; choose another data root"
    return RuntimeFailed(f"mount -t overlay -o {options} overlay {target}: {error.strerror}", hint=hint)


def _in_directory(directory: Path, action: Callable[[], None]) -> None:
    """Run action with directory as the current one, for this action only.

    The current directory belongs to the process, and Jupyter has many threads; a thread
    that unshares CLONE_FS has one of its own and dies with it.
    """
    failure: list[BaseException] = []

    def work() -> None:
        try:
            linux.unshare(linux.CLONE_FS)
            os.chdir(directory)
            action()
        except BaseException as error:  # noqa: BLE001 (raised again below, in the caller's thread)
            failure.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
