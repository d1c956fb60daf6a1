"""Downloads: each blob is a file that threads fill while another thread reads behind them.

So a layer is unpacked while it is downloaded, and the next layers are downloaded concurrently. An interrupted download
resumes where it ended. Digest and size are verified before verified() returns. The file has no name, so the kernel
deletes it even if the process is killed.
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

_CHUNK_SIZE = 1 << 18  # bytes
PROGRESS_INTERVAL = 0.1  # seconds between two progress reports, as in moby
CONCURRENT_DOWNLOADS = 3  # dockerd's default for max-concurrent-downloads

Report = Callable[[str, int, int], None]
"""Receives progress: (status in Docker's words, bytes so far, total bytes)."""


class Cancelled(RegistryFailed):
    """Another part of the same operation has failed."""


class BlobDownload:
    """One blob that is being downloaded. fetch() is called by one thread, everything else by another."""

    def __init__(self, repository: Repository, blob: Descriptor, directory: Path, report: Report) -> None:
        self.blob = blob
        self._repository = repository
        self._report = report
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 (close() closes it)
        self._hash = hashlib.sha256()
        self._size = 0
        self._done = False
        self._error: BaseException | None = None
        self._response: Response | None = None
        self._reported_at = 0.0
        self._changed = threading.Condition()

    # -- called by the thread that fetches --------------------------------------------------------

    def fetch(self) -> None:
        """Download and verify the whole blob. An error is raised by the methods that wait for the blob."""
        try:
            self._fetch()
            self._verify()
        except BaseException as error:  # noqa: BLE001 - available() and verified() raise it
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
                self._resume()
                if self._size == before:
                    raise Unreachable(f"{registry.host}: the body of {self.blob.digest} is cut off", hint="try again")
            except Unreachable:
                # Progress resets the count: a large blob may take many interrupted connections.
                failures = 1 if self._size > before + _CHUNK_SIZE else failures + 1
                if failures >= registry.retry_policy.tries:
                    raise
                self._check_cancelled()
                registry.pause(failures)
            if self.blob.size == 0:
                break

    def _resume(self) -> None:
        """Continue where the last attempt ended."""
        with contextlib.closing(self._repository.open_blob(self.blob.digest, self._size)) as response:
            self._response = response
            # A registry that ignores Range sends the whole blob with status 200 (RFC 9110, 14.2).
            skip = self._size if response.status == 200 else 0
            for piece in response.pieces(_CHUNK_SIZE):
                self._check_cancelled()
                rest = piece[skip:] if skip else piece
                skip = max(0, skip - len(piece))
                if rest:
                    self._append(rest)

    def _append(self, piece: bytes) -> None:
        if self._size + len(piece) > self.blob.size:
            raise InvalidArchive(
                f"the blob {self.blob.digest} is longer than its manifest says", hint="the registry is damaged"
            )
        self._hash.update(piece)
        # write(2) may write less than requested.
        view = memoryview(piece)
        while view:
            view = view[os.write(self._file.fileno(), view) :]
        # The size grows after the write, so a reader never gets bytes that are not in the file yet.
        with self._changed:
            self._size += len(piece)
            self._changed.notify_all()
        if time.monotonic() > self._reported_at + PROGRESS_INTERVAL or self._size == self.blob.size:
            self._reported_at = time.monotonic()
            self._report("Downloading", self._size, self.blob.size)

    def _verify(self) -> None:
        self._report("Verifying Checksum", 0, 0)
        if f"sha256:{self._hash.hexdigest()}" != self.blob.digest:
            raise InvalidArchive(
                f"filesystem layer verification failed for digest {self.blob.digest}",
                hint="the registry or the connection is damaged or manipulated; pull again",
            )
        self._report("Download complete", 0, 0)

    def _check_cancelled(self) -> None:
        if self._error is not None:
            raise self._error

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    # -- called by other threads ------------------------------------------------------------------

    @property
    def is_complete(self) -> bool:
        """Whether the whole blob has been downloaded and verified."""
        return self._done

    @property
    def error(self) -> BaseException | None:
        """The error with which the download has failed, None if it has not."""
        return self._error

    def cancel(self, reason: BaseException) -> None:
        """Stop the download, unless it is complete. Threads that wait for it get the reason as an error."""
        if self._done:
            return
        # The error is set before the response is interrupted: the fetching thread checks it before it retries.
        self._fail(reason)
        if (response := self._response) is not None:
            response.interrupt()

    def close(self) -> None:
        """Close the file. fetch() must have returned."""
        self._file.close()

    def verified(self) -> None:
        """Wait until the blob is complete and verified. Raises the download's error."""
        with self._changed:
            while not self._done and self._error is None:
                self._changed.wait()
        if self._error is not None:
            raise self._error

    def available(self, position: int) -> int:
        """Wait until the file has bytes after position; return its size, which equals position at the end.

        Raises the download's error.
        """
        with self._changed:
            while self._size <= position and not self._done and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            return self._size

    def reader(self, progress: Callable[[int], None] = lambda done: None) -> Reader:
        """Open a stream of the blob that waits for bytes to arrive. progress receives the bytes read so far."""
        return Reader(self, self._file.fileno(), progress)


class Reader(io.RawIOBase):
    """A stream of a blob that is being downloaded."""

    def __init__(self, download: BlobDownload, fd: int, progress: Callable[[int], None]) -> None:
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
        # pread(2) leaves the file's position alone, which the fetching thread writes at.
        available = self._end - self._position
        data = os.pread(self._fd, available if size < 0 else min(size, available), self._position)
        self._position += len(data)
        self._progress(self._position)
        return data


class Downloads:
    """Several downloads, at most CONCURRENT_DOWNLOADS at a time, started in order. Use as a context manager.

    When the block has ended, with or without an error, no download runs.
    """

    concurrency = CONCURRENT_DOWNLOADS

    def __init__(self, registry: RegistryClient) -> None:
        self._registry = registry
        self._waiting: list[BlobDownload] = []
        self._all: list[BlobDownload] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def start(self, downloads: list[BlobDownload]) -> None:
        """Begin to fetch these downloads."""
        self._all += downloads
        self._waiting += downloads
        for _ in range(min(CONCURRENT_DOWNLOADS, len(downloads))):
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
            if (error := download.error) is not None:
                # The operation fails when it reaches this blob, so the other downloads are not needed.
                for other in self._all:
                    other.cancel(error)

    def __enter__(self) -> Downloads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A thread may wait for its next retry, for up to half a minute.
        if error is not None:
            self._registry.cancel_retries()
        for download in self._all:
            download.cancel(Cancelled("the download was cancelled"))
        for thread in self._threads:
            thread.join()
        for download in self._all:
            download.close()
