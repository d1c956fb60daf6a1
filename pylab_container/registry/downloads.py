"""A blob as a file that grows: threads fill it, and somebody reads behind them.

So a layer is unpacked while it comes in, and the next ones come in meanwhile. What broke off goes on
where it ended; digest and size are verified before verified() returns. The file has no name: when
the process dies, it is gone.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from pylab_container.errors import InvalidArchive, RegistryFailed, Unreachable
from pylab_container.oci.manifest import Descriptor
from pylab_container.registry.blobs import Repository
from pylab_container.registry.client import RegistryClient, Response

_PIECE = 1 << 18
SELDOM = 0.1
"""Seconds between two reports of how far something is, as in moby."""
AT_ONCE = 3
"""As many as docker downloads at the same time."""

Tell = Callable[[str, int, int], None]
"""(status, bytes so far, bytes in all) in docker's words."""


class Cancelled(RegistryFailed):
    """Another part of the same operation has failed."""


class Download:
    """One blob on its way. fetch() is called by one thread, everything else by another."""

    def __init__(self, repository: Repository, blob: Descriptor, directory: Path, tell: Tell) -> None:
        self.blob = blob
        self._repository = repository
        self._tell = tell
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 (close() closes it)
        self._hash = hashlib.sha256()
        self._size = 0
        self._done = False
        self._error: BaseException | None = None
        self._response: Response | None = None
        self._told = 0.0
        self._changed = threading.Condition()

    # ---- the thread that fetches ----

    def fetch(self) -> None:
        """Bring the whole blob; what goes wrong is raised by those who wait for it."""
        try:
            self._fetch()
            self._verify()
        except BaseException as error:  # noqa: BLE001 - read() and verified() raise it
            self._fail(error)
        else:
            with self._changed:
                self._done = True
                self._changed.notify_all()

    def _fetch(self) -> None:
        registry = self._repository.registry
        failures = 0
        while self._size < self.blob.size or (self.blob.size == 0 and not failures):
            before = self._size
            try:
                self._continue()
                if self._size == before:
                    raise Unreachable(f"{registry.host}: the body of {self.blob.digest} is cut off", hint="try again")
            except Unreachable:
                # A connection that breaks now and then is slow; one that brings nothing is broken.
                failures = 1 if self._size > before + _PIECE else failures + 1
                if failures >= registry.patience.tries:
                    raise
                self._check_cancelled()
                registry.pause(failures)
            if self.blob.size == 0:
                break

    def _continue(self) -> None:
        """Go on where the last attempt ended."""
        with contextlib.closing(self._repository.open_blob(self.blob.digest, self._size)) as response:
            self._response = response
            skip = self._size if response.status == 200 else 0
            for piece in response.pieces(_PIECE):
                self._check_cancelled()
                fresh = piece[skip:] if skip else piece
                skip = max(0, skip - len(piece))
                if fresh:
                    self._append(fresh)

    def _append(self, piece: bytes) -> None:
        if self._size + len(piece) > self.blob.size:
            raise InvalidArchive(
                f"the blob {self.blob.digest} is longer than its manifest says", hint="the registry is damaged"
            )
        self._hash.update(piece)
        view = memoryview(piece)
        while view:
            view = view[os.write(self._file.fileno(), view) :]
        with self._changed:
            self._size += len(piece)
            self._changed.notify_all()
        if time.monotonic() > self._told + SELDOM or self._size == self.blob.size:
            self._told = time.monotonic()
            self._tell("Downloading", self._size, self.blob.size)

    def _verify(self) -> None:
        self._tell("Verifying Checksum", 0, 0)
        if f"sha256:{self._hash.hexdigest()}" != self.blob.digest:
            raise InvalidArchive(
                f"filesystem layer verification failed for digest {self.blob.digest}",
                hint="the registry is damaged, or somebody changes what it sends; pull again",
            )
        self._tell("Download complete", 0, 0)

    def _check_cancelled(self) -> None:
        if self._error is not None:
            raise self._error

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    # ---- those who wait ----

    @property
    def is_complete(self) -> bool:
        """Whether all of it is here, and as it should be."""
        return self._done

    @property
    def error(self) -> BaseException | None:
        """Why it has failed, None while it has not."""
        return self._error

    def cancel(self, reason: BaseException) -> None:
        """Stop as soon as it goes; whoever waits for it is told the reason, if it is not complete."""
        if self._done:
            return
        self._fail(reason)
        if (response := self._response) is not None:
            response.interrupt()

    def close(self) -> None:
        """Give the file back; fetch() must have ended."""
        self._file.close()

    def verified(self) -> None:
        """Wait for the end. Raises what went wrong; else digest and size are right."""
        with self._changed:
            while not self._done and self._error is None:
                self._changed.wait()
        if self._error is not None:
            raise self._error

    def available(self, position: int) -> int:
        """Wait until there are bytes behind position, and tell up to where; position itself at the end.

        Raises what went wrong.
        """
        with self._changed:
            while self._size <= position and not self._done and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            return self._size

    def reader(self, progress: Callable[[int], None] = lambda done: None) -> Reader:
        """A stream of the blob, which waits for what is not there yet; progress gets the bytes read so far."""
        return Reader(self, self._file.fileno(), progress)


class Reader(io.RawIOBase):
    """Reads behind a download."""

    def __init__(self, download: Download, fd: int, progress: Callable[[int], None]) -> None:
        self._download = download
        self._fd = fd
        self._progress = progress
        self._position = 0
        self._end = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if self._position >= self._end:
            self._end = self._download.available(self._position)
        wanted = self._end - self._position
        data = os.pread(self._fd, wanted if size < 0 else min(size, wanted), self._position)
        self._position += len(data)
        self._progress(self._position)
        return data


class Downloads:
    """Several downloads, at most AT_ONCE at a time, begun in their order. Use as a context manager.

    At its end nothing is fetched any more, whatever happened.
    """

    at_once = AT_ONCE

    def __init__(self, registry: RegistryClient) -> None:
        self._registry = registry
        self._waiting: list[Download] = []
        self._all: list[Download] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self, downloads: list[Download]) -> None:
        """Begin to fetch these."""
        self._all += downloads
        self._waiting += downloads
        for _ in range(min(AT_ONCE, len(downloads))):
            thread = threading.Thread(target=self._work, name="download", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    return
                download = self._waiting.pop(0)
            download.fetch()
            if (error := download.error) is not None:  # the others' turn would come later, and all is lost already
                for other in self._all:
                    other.cancel(error)

    def __enter__(self) -> Downloads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._registry.give_up()
        for download in self._all:
            download.cancel(Cancelled("the download was given up"))
        for thread in self._threads:
            thread.join()
        for download in self._all:
            download.close()
