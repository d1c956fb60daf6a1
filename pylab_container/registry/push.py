"""push: send an image to a registry, without the layers that the registry has.

    layers → config → manifest under the tag

A layer that another repository of the registry has is mounted from there. The others are rebuilt byte for byte,
compressed and sent as a stream, without a temporary file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import ImageNotFound, LabError, RegistryFailed
from pylab_container.events import Emit, ImageChanged, PushResult
from pylab_container.host.background import Background
from pylab_container.images import lookup
from pylab_container.oci import manifest as manifests
from pylab_container.oci.ids import Digest
from pylab_container.oci.image import ImageConfig, sha256
from pylab_container.oci.manifest import Descriptor, Manifest
from pylab_container.oci.reference import Reference
from pylab_container.registry import transfers
from pylab_container.registry.blobs import Repository
from pylab_container.registry.client import RegistryClient
from pylab_container.registry.settings import RegistrySettings
from pylab_container.registry.transfers import AuthConfig, ProgressReport
from pylab_container.store import compression, layer_content
from pylab_container.store.data_root import DataRoot
from pylab_container.store.distribution_store import KnownBlob
from pylab_container.store.layer_store import Layer
from pylab_container.store.transactions import making

CONCURRENT_UPLOADS = 3
MAX_KNOWN_BLOBS = 4  # blobs of a layer that are looked for at the registry before the layer is sent again; as in moby
SEND_SIZE = 1 << 18  # bytes


class PushRequest(Struct, frozen=True):
    """What to push.

    all_tags  every tag that the repository has here
    auth      the credentials; None: those in docker's config.json
    progress  receives the events of this push
    """

    reference: Reference
    all_tags: bool = False
    auth: AuthConfig | None = None
    progress: Emit | None = None


def push(data: DataRoot, settings: RegistrySettings, request: PushRequest) -> list[PushResult]:
    """Send images to the registry of their name.

    Raises ImageNotFound for a name that no image has here, Unauthorized, Unreachable, RegistryFailed.
    """
    reference = request.reference
    ProgressReport(data.emit, request.progress).message(
        f"The push refers to repository [{transfers.full_name(reference)}]"
    )
    images = _select_images(data, request)
    endpoint = settings.endpoint(reference.domain)
    with transfers.opened(settings, reference, endpoint, request.auth, emit=data.emit) as registry:
        push = _Push(data, request, Repository(registry, reference.path, writes=True))
        return [push.send(name, image_id) for name, image_id in images]


def copy(data: DataRoot, images: Sequence[tuple[Reference, str]], registry: RegistryClient) -> None:
    """Send images to a registry under the paths of their names; the names here do not change."""
    for reference, image_id in images:
        target = replace(reference, domain=registry.host)
        _Push(data, PushRequest(target), Repository(registry, target.path, writes=True)).put(target, image_id)


def _select_images(data: DataRoot, request: PushRequest) -> list[tuple[Reference, Digest]]:
    """Return the names to push, each with its image's id."""
    reference = request.reference
    images = [
        (tag.reference, tag.image_id)
        for tag in data.images.tags()
        if tag.reference.repository == reference.repository and (request.all_tags or tag.reference == reference)
    ]
    if not images:
        raise ImageNotFound(
            f"An image does not exist locally with the tag: {reference.repository}",
            hint=f"labctr tag IMAGE {reference.familiar}",
        )
    return images


class _Push:
    """One push to one repository."""

    def __init__(self, data: DataRoot, request: PushRequest, repository: Repository) -> None:
        self._data = data
        self._repository = repository
        self._full_name = transfers.full_name(request.reference)
        self._auth = request.auth if request.auth is not None else {}
        self._report = ProgressReport(data.emit, request.progress)
        self._sent: dict[str, Descriptor] = {}

    def send(self, reference: Reference, image_id: str) -> PushResult:
        """Send one image, and record its name with the digest of the manifest that the registry got."""
        result = self.put(reference, image_id)
        self._data.images.tag(replace(reference, tag=None, digest=result.digest), image_id)
        self._report.message(f"{result.tag}: digest: {result.digest} size: {result.size}")
        self._report.emit(result)
        self._data.emit(ImageChanged("pushed", image_id, reference.familiar))
        return result

    def put(self, reference: Reference, image_id: str) -> PushResult:
        """Send the parts of one image that the registry lacks, then its manifest under its tag."""
        repository, tag = self._repository, reference.tag or ""
        with making(self._data) as lease:  # the lease holds the layers while they are read
            config = lookup.hold(self._data, image_id, lease)
            layers = self._send_layers(self._data.layers.chain(config.chain_id)[::-1])
            repository.upload_document(config.raw)
        raw = manifests.schema2(Manifest(_config_descriptor(config), layers))
        repository.put_manifest(tag, raw, manifests.DOCKER_MANIFEST)
        return PushResult(tag, sha256(raw), len(raw))

    # -- layers ------------------------------------------------------------------------------------

    def _send_layers(self, layers: Sequence[Layer]) -> tuple[Descriptor, ...]:
        """Send the layers that the registry lacks; returns the blobs of all of them."""
        missing = {layer.diff_id: layer for layer in reversed(layers) if layer.diff_id not in self._sent}
        for position, diff_id in enumerate(missing):
            self._report.layer(diff_id, "Preparing")
            if position >= CONCURRENT_UPLOADS:
                self._report.layer(diff_id, "Waiting")
        queue = iter(missing.values())
        workers = [Background(lambda: self._work(queue)) for _ in range(min(CONCURRENT_UPLOADS, len(missing)))]
        failures: list[LabError] = []
        for worker in workers:
            with _collected(failures):
                worker.result()
        if failures:
            raise failures[0]
        return tuple(self._sent[layer.diff_id] for layer in layers)

    def _work(self, queue: Iterator[Layer]) -> None:
        # next() on a dictionary's view is atomic in CPython: two threads never get the same layer.
        while (layer := next(queue, None)) is not None:
            try:
                self._sent[layer.diff_id] = self._send_layer(layer)
            except BaseException:
                for _ in queue:  # empty the queue, so that the other workers end
                    pass
                raise

    def _send_layer(self, layer: Layer) -> Descriptor:
        blob = self._find_blob(layer) or self._mount_blob(layer) or self._upload_blob(layer)
        self._data.distribution.add(layer.diff_id, KnownBlob(blob.digest, self._full_name).signed(self._auth))
        return blob

    def _find_blob(self, layer: Layer) -> Descriptor | None:
        """Return the layer's blob in this repository, if it was recorded there and still exists."""
        for known in self._known_blobs(layer, in_repository=True):
            size = self._repository.has_blob(known.digest)
            if size is not None:
                self._report.layer(layer.diff_id, "Layer already exists")
                return Descriptor(manifests.DOCKER_LAYER, known.digest, size)
            self._data.distribution.forget(layer.diff_id, known)
        return None

    def _mount_blob(self, layer: Layer) -> Descriptor | None:
        """Mount the layer's blob from another repository of the registry, if one has it."""
        for known in self._known_blobs(layer, in_repository=False):
            origin = known.repository.partition("/")[2]
            with contextlib.suppress(RegistryFailed):
                if self._repository.mount(known.digest, origin):
                    size = self._repository.has_blob(known.digest)
                    if size is not None:
                        self._report.layer(layer.diff_id, f"Mounted from {origin}")
                        return Descriptor(manifests.DOCKER_LAYER, known.digest, size)
        return None

    def _known_blobs(self, layer: Layer, *, in_repository: bool) -> list[KnownBlob]:
        """Return a layer's recorded blobs at this registry, in this repository or in the others; the latest first."""
        domain = self._full_name.partition("/")[0]
        matches = [
            known
            for known in reversed(self._data.distribution.blobs(layer.diff_id))
            if known.repository.partition("/")[0] == domain and (known.repository == self._full_name) == in_repository
        ]
        return list({(known.digest, known.repository): known for known in matches}.values())[:MAX_KNOWN_BLOBS]

    def _upload_blob(self, layer: Layer) -> Descriptor:
        store = self._data.layers
        count = self._report.counter(layer.diff_id, "Pushing", layer_content.tar_size(store, layer.chain_id))
        blob = self._repository.upload(
            lambda: _joined(
                compression.compressed(_counted(layer_content.tar_stream(store, layer.chain_id), count), "gzip")
            )
        )
        self._report.layer(layer.diff_id, "Pushed")
        return Descriptor(manifests.DOCKER_LAYER, blob.digest, blob.size)


def _config_descriptor(config: ImageConfig) -> Descriptor:
    return Descriptor(manifests.DOCKER_CONFIG, config.id, len(config.raw))


@contextlib.contextmanager
def _collected(failures: list[LabError]) -> Iterator[None]:
    """Keep an error of the block: the other workers must end before it is raised."""
    try:
        yield
    except LabError as error:
        failures.append(error)


def _counted(chunks: Iterable[bytes], count: transfers.Counter) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        count(done)


def _joined(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Join small chunks: each chunk costs a system call, and a size line in HTTP's chunked encoding."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        if len(buffer) >= SEND_SIZE:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)
