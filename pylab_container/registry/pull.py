"""pull: an image from a registry, layer by layer.

    manifest → config → layers → image → names

Layers are fetched side by side (registry/downloads.py) and unpacked one on top of the other, each while it
still comes in. Nothing has a name before all digests are right; what a failure leaves is nobody's, and goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import ImageNotFound, InvalidArchive, InvalidReference, LabError, NotFound, RegistryFailed
from pylab_container.events import Emit
from pylab_container.images.image import Image, machine_architecture
from pylab_container.maintenance import recovery
from pylab_container.oci import manifest as manifests
from pylab_container.oci.image import LONGEST_CONFIG, ImageConfig
from pylab_container.oci.manifest import Descriptor, Manifest
from pylab_container.oci.platform import Platform
from pylab_container.oci.reference import DEFAULT_TAG, Reference
from pylab_container.registry import transfers
from pylab_container.registry.blobs import FetchedManifest, ManifestUnknown, Repository
from pylab_container.registry.downloads import Download, Downloads
from pylab_container.registry.transfers import AuthConfig, Teller
from pylab_container.store import compression, layer_content
from pylab_container.store.distribution_store import KnownBlob
from pylab_container.store.layertar import TarReader
from pylab_container.store.leases import Lease

if TYPE_CHECKING:
    from pylab_container.engine import Engine

_DEEPEST_INDEX = 4


class PullRequest(Struct, frozen=True):
    """What is asked for.

    all_tags  every tag of the repository; the reference's own does not count
    platform  "linux/arm64"; "" is this machine's
    """

    reference: Reference
    all_tags: bool = False
    platform: str = ""
    auth: AuthConfig | None = None
    progress: Emit | None = None


def pull(engine: Engine, request: PullRequest) -> list[Image]:
    """Bring images from the first place that gives them: mirrors, then the registry itself.

    Raises ImageNotFound, Unauthorized, Unreachable, InvalidArchive, and InvalidInput for a platform that is none.
    """
    reference = request.reference
    if request.platform:
        Platform.parse(request.platform, architecture=machine_architecture())
    failures: list[LabError] = []
    for place in engine.registries.endpoints(reference.domain):
        try:
            with transfers.opened(engine, reference, place, request.auth) as registry:
                return _Pull(engine, request, Repository(registry, reference.path)).run()
        except (RegistryFailed, NotFound, InvalidArchive) as error:
            failures.append(error)
    raise _translated(failures[-1], reference) from failures[-1]


class _Pull:
    """One pull from one place."""

    def __init__(self, engine: Engine, request: PullRequest, repository: Repository) -> None:
        self._engine = engine
        self._request = request
        self._repository = repository
        self._tell, self._tell_layers = Teller(engine, request.progress), Teller(engine, request.progress)
        here = machine_architecture()
        self._platform = Platform.parse(request.platform or f"linux/{here}", architecture=here)
        self._news = False

    def run(self) -> list[Image]:
        """Every image that is asked for."""
        reference = self._request.reference
        if self._request.all_tags:
            wanted = self._all_tags()
            if not wanted:
                raise ImageNotFound(f"the repository {reference.repository} has no tags", hint="check its name")
        else:
            wanted = [replace(reference, tag=None) if reference.digest else reference]
        images = [self._pull(one) for one in wanted]
        name = reference.repository if self._request.all_tags else wanted[0].familiar
        self._tell.message(f"Status: {'Downloaded newer image' if self._news else 'Image is up to date'} for {name}")
        return images

    def _all_tags(self) -> list[Reference]:
        """The repository under each of its tags. Raises InvalidArchive for a tag that cannot be one."""
        try:
            return [self._request.reference.with_tag(tag) for tag in self._repository.tags()]
        except InvalidReference as error:
            raise InvalidArchive(f"the registry lists an invalid tag: {error.message}", hint="pull one tag") from None

    def _pull(self, reference: Reference) -> Image:
        """One image: what it is made of, what is missing of that, and its names."""
        fetched = self._repository.manifest(reference.digest or reference.tag or DEFAULT_TAG)
        self._tell.message(f"Pulling from {reference.path}", reference.digest or reference.tag or "")
        manifest = manifests.parse_manifest(self._chosen(fetched, reference).raw)
        manifests.check_layers(manifest)
        turn = self._engine.images.turns.take(manifest.config.digest, self._tell_layers, self._request.progress)
        with turn, recovery.making(self._engine) as lease:
            config = self._config(manifest, reference)
            if not self._engine.data.images.exists(config.id):
                self._bring_layers(config, manifest.layers, reference, lease)
            image = self._name(config, reference, fetched.digest)
        self._tell.message(f"Digest: {fetched.digest}")
        return image

    # ---- what it is ----

    def _chosen(self, fetched: FetchedManifest, reference: Reference) -> FetchedManifest:
        """The manifest itself: an index is followed to the one for the platform."""
        for _ in range(_DEEPEST_INDEX):
            if fetched.kind not in manifests.INDEXES:
                return fetched
            found = manifests.choose(manifests.parse_index(fetched.raw), self._platform)
            if found is None:
                raise ImageNotFound(
                    f"no matching manifest for {self._platform} in the manifest list entries",
                    hint="pull another platform with --platform, or ask for an image of this one",
                )
            fetched = self._repository.manifest(found.digest)
        raise InvalidArchive(f"the indexes of {reference.familiar} list indexes without end", hint="do not trust it")

    def _config(self, manifest: Manifest, reference: Reference) -> ImageConfig:
        """The image's config, from here or from there."""
        digest = manifest.config.digest
        if self._engine.data.images.exists(digest):
            config = self._engine.images.config(digest)
        else:
            config = ImageConfig.parse(self._document(manifest))
        if len(config.diff_ids) != len(manifest.layers):
            raise InvalidArchive(
                f"the image's config lists {len(config.diff_ids)} layers, its manifest {len(manifest.layers)}",
                hint="the image is damaged",
            )
        actual = Platform.of(config.document)
        if self._request.platform and config.architecture and actual.rank(self._platform) is None:
            raise ImageNotFound(
                f"image with reference {reference.familiar} was found but does not match the specified platform: "
                f"wanted {self._platform}, actual: {actual}",
                hint="leave --platform out, or ask for an image of that platform",
            )
        return config

    def _document(self, manifest: Manifest) -> bytes:
        """The config's bytes. Raises InvalidArchive before it fetches one that is too long."""
        size = manifest.config.size
        if size > LONGEST_CONFIG:
            raise InvalidArchive(
                f"the image's config has {size} bytes, more than {LONGEST_CONFIG}", hint="do not trust it"
            )
        return self._repository.document(manifest.config.digest, size)

    # ---- what is missing ----

    def _bring_layers(
        self, config: ImageConfig, blobs: Sequence[Descriptor], reference: Reference, lease: Lease
    ) -> None:
        """Register every layer; those at the bottom that are here already are found."""
        known, chain = self._known(config, lease)
        for blob in blobs[:known]:
            self._tell_layers.layer(blob.digest, "Already exists")
        limit = compression.Limit(None, self._engine.data.path)
        with self._engine.data.scratch() as scratch, Downloads(self._repository.registry) as downloads:
            missing = {blob.digest: blob for blob in blobs[known:]}
            coming = {
                digest: Download(self._repository, blob, scratch, self._teller(digest))
                for digest, blob in missing.items()
            }
            for position, digest in enumerate(missing):
                self._tell_layers.layer(digest, "Pulling fs layer")
                if position >= downloads.at_once:
                    self._tell_layers.layer(digest, "Waiting")
            downloads.start(list(coming.values()))
            for blob, diff_id in zip(blobs[known:], config.diff_ids[known:], strict=True):
                chain = self._register(coming[blob.digest], diff_id, chain, lease, limit)
                if blob.media_type.endswith("gzip"):  # a push says of all that it sends or mounts that it is gzip
                    self._engine.data.distribution.add(diff_id, KnownBlob(blob.digest, transfers.full_name(reference)))

    def _known(self, config: ImageConfig, lease: Lease) -> tuple[int, str]:
        """How many of the layers are here, from the bottom, and the chain that they are."""
        chain = ""
        for position, diff_id in enumerate(config.diff_ids):
            found = self._engine.data.layers.find(chain, diff_id, lease)
            if found is None:
                return position, chain
            chain = found.chain_id
        return len(config.diff_ids), chain

    def _register(self, download: Download, diff_id: str, parent: str, lease: Lease, limit: compression.Limit) -> str:
        """Unpack one layer while it comes in; returns its chain id."""
        blob = download.blob
        count = self._tell_layers.counter(blob.digest, "Extracting", blob.size)
        # While it comes in, people want to know how much of it has come; docker extracts only afterwards.
        stream = download.reader(lambda done: count(done) if download.is_complete else None)

        def check(found: str) -> None:
            download.verified()
            if found != diff_id:
                raise InvalidArchive(
                    f"the layer {blob.digest} has the diff id {found}, but the config wants {diff_id}",
                    hint="the image is damaged",
                )

        try:
            with compression.ReadAhead(limit.stream(compression.decompressed(cast(BinaryIO, stream)))) as plain:
                members = TarReader(cast(BinaryIO, plain))
                layer = layer_content.register(self._engine.data.layers, members, parent, lease, check=check)
        except InvalidArchive:
            download.verified()  # that it is not what it should be says more than what is wrong in it
            raise
        self._tell_layers.layer(blob.digest, "Pull complete")
        return layer.chain_id

    def _teller(self, digest: str) -> transfers.Count:
        return lambda status, current, total: self._tell_layers.layer(digest, status, current, total)

    # ---- what it is called ----

    def _name(self, config: ImageConfig, reference: Reference, digest: str) -> Image:
        """Make the image, and give it the registry's name for it and the one that was asked for."""
        by_digest = replace(reference, tag=None, digest=digest)
        names = [by_digest] if reference.digest else [by_digest, reference]
        self._news |= self._engine.data.images.resolve(reference) != config.id
        return self._engine.images.add_pulled(config, names)


def look_up(engine: Engine, reference: Reference, auth: AuthConfig | None) -> tuple[manifests.Descriptor, list[str]]:
    """An image's manifest or index at the first place that has it, and its platforms. Raises as pull() does."""
    failures: list[LabError] = []
    for place in engine.registries.endpoints(reference.domain):
        try:
            with transfers.opened(engine, reference, place, auth) as registry:
                return _seen(Repository(registry, reference.path), reference)
        except (RegistryFailed, NotFound) as error:
            failures.append(error)
    last = failures[-1]
    raise ImageNotFound(last.message, hint=last.hint) if isinstance(last, ManifestUnknown) else last


def _seen(repository: Repository, reference: Reference) -> tuple[manifests.Descriptor, list[str]]:
    fetched = repository.manifest(reference.digest or reference.tag or DEFAULT_TAG)
    descriptor = manifests.Descriptor(fetched.kind, fetched.digest, len(fetched.raw))
    if fetched.kind in manifests.INDEXES:
        listed = manifests.parse_index(fetched.raw)
        return descriptor, [str(Platform.of(one.platform)) for one in listed if one.platform]
    config = manifests.parse_manifest(fetched.raw).config
    document = ImageConfig.parse(repository.document(config.digest, config.size)).document
    return descriptor, [str(Platform.of(document))]


def _translated(error: LabError, reference: Reference) -> LabError:
    """A registry's refusal in the words that Docker's clients look for (moby distribution/errors.go)."""
    hint = error.hint
    if isinstance(error, ManifestUnknown):
        what = f"repository {reference.repository} not found"
        if error.code != "NAME_UNKNOWN":
            what = f"manifest for {reference.familiar} not found"
        return ImageNotFound(f"{what}: {error.message}", hint=hint)
    if isinstance(error, RegistryFailed) and error.code == "DENIED":
        return ImageNotFound(
            f"pull access denied for {reference.repository}, repository does not exist or may require "
            f"'docker login': {error.message}",
            hint="check the name, or labctr login",
        )
    return error
