"""push: an image to a registry, each layer only if the registry lacks it.

    layers → config → manifest under the tag

A layer that the registry has is not sent; one that it has in another repository is mounted from there. All
others are rebuilt byte for byte, compressed and sent in one go: nothing is written on the way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import ImageNotFound, LabError, RegistryFailed
from pylab_container.events import Emit, ImageChanged, PushResult
from pylab_container.host.background import Background
from pylab_container.maintenance import recovery
from pylab_container.oci import manifest as manifests
from pylab_container.oci.ids import Digest
from pylab_container.oci.image import ImageConfig, sha256
from pylab_container.oci.manifest import Descriptor, Manifest
from pylab_container.oci.reference import Reference
from pylab_container.registry import transfers
from pylab_container.registry.blobs import Repository
from pylab_container.registry.client import RegistryClient
from pylab_container.registry.transfers import AuthConfig, Teller
from pylab_container.store import compression, layer_content
from pylab_container.store.distribution_store import KnownBlob
from pylab_container.store.layer_store import Layer

if TYPE_CHECKING:
    from pylab_container.engine import Engine

_AT_ONCE = 3
_MOST_TRIES = 4
"""So many blobs that a layer was known as are asked for, before it is sent again; as in moby."""
_PIECE = 1 << 18


class PushRequest(Struct, frozen=True):
    """What is asked for; all_tags: every tag that the repository has here."""

    reference: Reference
    all_tags: bool = False
    auth: AuthConfig | None = None
    progress: Emit | None = None


def push(engine: Engine, request: PushRequest) -> list[PushResult]:
    """Send images to the registry that their name says.

    Raises ImageNotFound for a name that no image has here, Unauthorized, Unreachable, RegistryFailed.
    """
    reference = request.reference
    Teller(engine, request.progress).message(f"The push refers to repository [{transfers.full_name(reference)}]")
    images = _images(engine, request)
    with transfers.opened(engine, reference, engine.registries.endpoint(reference.domain), request.auth) as registry:
        push = _Push(engine, request, Repository(registry, reference.path, writes=True))
        return [push.send(name, image_id) for name, image_id in images]


def _images(engine: Engine, request: PushRequest) -> list[tuple[Reference, Digest]]:
    """The names to push, and the images that they mean."""
    wanted, tags = request.reference, engine.data.images.tags()
    found = [
        (tag.reference, tag.image_id)
        for tag in tags
        if tag.reference.repository == wanted.repository and (request.all_tags or tag.reference == wanted)
    ]
    if not found:
        raise ImageNotFound(
            f"An image does not exist locally with the tag: {wanted.repository}",
            hint=f"labctr tag IMAGE {wanted.familiar}",
        )
    return found


def copy(engine: Engine, images: Sequence[tuple[Reference, str]], registry: RegistryClient) -> None:
    """Send images to a registry, under the paths of their names; their names here stay what they are."""
    for reference, image_id in images:
        target = replace(reference, domain=registry.host)
        _Push(engine, PushRequest(target), Repository(registry, target.path, writes=True)).put(target, image_id)


class _Push:
    """One push to one repository."""

    def __init__(self, engine: Engine, request: PushRequest, repository: Repository) -> None:
        self._engine = engine
        self._repository = repository
        self._full_name = transfers.full_name(request.reference)
        self._auth = request.auth if request.auth is not None else {}
        self._tell = Teller(engine, request.progress)
        self._sent: dict[str, Descriptor] = {}

    def send(self, reference: Reference, image_id: str) -> PushResult:
        """Send one image, and note what the registry calls it."""
        result = self.put(reference, image_id)
        self._engine.data.images.tag(replace(reference, tag=None, digest=result.digest), image_id)
        self._tell.message(f"{result.tag}: digest: {result.digest} size: {result.size}")
        self._tell.emit(result)
        self._engine.events.emit(ImageChanged("pushed", image_id, reference.familiar))
        return result

    def put(self, reference: Reference, image_id: str) -> PushResult:
        """Send what the registry lacks of one image, then put its manifest under its tag."""
        repository, tag = self._repository, reference.tag or ""
        with recovery.making(self._engine) as lease:  # the layers stay while they are read
            config = self._engine.images.held(image_id, lease)
            layers = self._send_layers(self._engine.data.layers.chain(config.chain_id)[::-1])
            repository.upload_document(config.raw)
        raw = manifests.schema2(Manifest(_config(config), layers))
        repository.put_manifest(tag, raw, manifests.DOCKER_MANIFEST)
        return PushResult(tag, sha256(raw), len(raw))

    # ---- layers ----

    def _send_layers(self, layers: Sequence[Layer]) -> tuple[Descriptor, ...]:
        """The blobs that the registry has them as, once it has them all."""
        missing = {layer.diff_id: layer for layer in reversed(layers) if layer.diff_id not in self._sent}
        for position, diff_id in enumerate(missing):
            self._tell.layer(diff_id, "Preparing")
            if position >= _AT_ONCE:
                self._tell.layer(diff_id, "Waiting")
        queue = iter(missing.values())
        workers = [Background(lambda: self._work(queue)) for _ in range(min(_AT_ONCE, len(missing)))]
        failures: list[LabError] = []
        for worker in workers:
            with _kept(failures):
                worker.result()
        if failures:
            raise failures[0]
        return tuple(self._sent[layer.diff_id] for layer in layers)

    def _work(self, queue: Iterator[Layer]) -> None:
        # next() of a dictionary's view is one step of the interpreter: two threads never get the same layer.
        while (layer := next(queue, None)) is not None:
            try:
                self._sent[layer.diff_id] = self._send_layer(layer)
            except BaseException:
                for _ in queue:  # nobody begins another one
                    pass
                raise

    def _send_layer(self, layer: Layer) -> Descriptor:
        blob = self._there(layer) or self._mounted(layer) or self._uploaded(layer)
        self._engine.data.distribution.add(layer.diff_id, KnownBlob(blob.digest, self._full_name).signed(self._auth))
        return blob

    def _there(self, layer: Layer) -> Descriptor | None:
        """The layer's blob in this very repository, if it is known to have been there and still is."""
        for known in self._known(layer, here=True):
            size = self._repository.has_blob(known.digest)
            if size is not None:
                self._tell.layer(layer.diff_id, "Layer already exists")
                return Descriptor(manifests.DOCKER_LAYER, known.digest, size)
            self._engine.data.distribution.forget(layer.diff_id, known)
        return None

    def _mounted(self, layer: Layer) -> Descriptor | None:
        """The layer's blob taken over from another repository of the same registry."""
        for known in self._known(layer, here=False):
            origin = known.repository.partition("/")[2]
            with contextlib.suppress(RegistryFailed):
                if self._repository.mount(known.digest, origin):
                    size = self._repository.has_blob(known.digest)
                    if size is not None:
                        self._tell.layer(layer.diff_id, f"Mounted from {origin}")
                        return Descriptor(manifests.DOCKER_LAYER, known.digest, size)
        return None

    def _known(self, layer: Layer, *, here: bool) -> list[KnownBlob]:
        """What the layer was known as at this registry, in this repository or in others; the latest first."""
        domain = self._full_name.partition("/")[0]
        found = [
            known
            for known in reversed(self._engine.data.distribution.blobs(layer.diff_id))
            if known.repository.partition("/")[0] == domain and (known.repository == self._full_name) == here
        ]
        return list({(known.digest, known.repository): known for known in found}.values())[:_MOST_TRIES]

    def _uploaded(self, layer: Layer) -> Descriptor:
        """The layer, sent."""
        layers, chain = self._engine.data.layers, layer.chain_id
        count = self._tell.counter(layer.diff_id, "Pushing", layer_content.tar_size(layers, chain))
        sent = self._repository.upload(
            lambda: _gathered(compression.compressed(_counted(layer_content.tar_stream(layers, chain), count), "gzip"))
        )
        self._tell.layer(layer.diff_id, "Pushed")
        return Descriptor(manifests.DOCKER_LAYER, sent.digest, sent.size)


def _config(config: ImageConfig) -> Descriptor:
    return Descriptor(manifests.DOCKER_CONFIG, config.id, len(config.raw))


@contextlib.contextmanager
def _kept(failures: list[LabError]) -> Iterator[None]:
    """Put an error away: the other threads have to end first."""
    try:
        yield
    except LabError as error:
        failures.append(error)


def _counted(pieces: Iterable[bytes], count: transfers.Counter) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        count(done)


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces: each costs a system call, and a line of its own in HTTP."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        if len(gathered) >= _PIECE:
            yield bytes(gathered)
            gathered.clear()
    if gathered:
        yield bytes(gathered)
