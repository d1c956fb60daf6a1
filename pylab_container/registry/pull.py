"""pull: fetch an image from a registry, layer by layer.

    manifest → config → layers → image → names

Layers are downloaded concurrently (registry/downloads.py). Each is unpacked on top of the one below while it is still
downloaded. Names are given after all digests are verified; a pull that fails is rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, cast

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import (
    ImageNotFound,
    InvalidArchive,
    InvalidReference,
    LabError,
    NotFound,
    RegistryFailed,
)
from pylab_container.events import Emit
from pylab_container.images import creation, lookup
from pylab_container.images.image import Image, machine_architecture
from pylab_container.images.reporting import report
from pylab_container.oci import manifest as manifests
from pylab_container.oci.image import LONGEST_CONFIG, ImageConfig
from pylab_container.oci.manifest import Descriptor, Manifest
from pylab_container.oci.platform import Platform
from pylab_container.oci.reference import DEFAULT_TAG, Reference
from pylab_container.registry import transfers
from pylab_container.registry.blobs import FetchedManifest, ManifestUnknown, Repository
from pylab_container.registry.downloads import BlobDownload, Downloads
from pylab_container.registry.settings import RegistrySettings
from pylab_container.registry.transfers import AuthConfig, ProgressReport
from pylab_container.registry.turns import Turns
from pylab_container.store import compression, layer_content
from pylab_container.store.data_root import DataRoot
from pylab_container.store.distribution_store import KnownBlob
from pylab_container.store.layertar import TarReader
from pylab_container.store.leases import Lease
from pylab_container.store.transactions import making

MAX_INDEX_DEPTH = 4  # an index may list indexes; real ones nest once


class PullRequest(Struct, frozen=True):
    """What to pull.

    all_tags  every tag of the repository; the reference's own tag is ignored
    platform  "linux/arm64"; "" is this machine's
    auth      the credentials; None: those in docker's config.json
    progress  receives the events of this pull
    """

    reference: Reference
    all_tags: bool = False
    platform: str = ""
    auth: AuthConfig | None = None
    progress: Emit | None = None


class Puller:
    """Pulls images into one data root.

    turns  the running pulls of this process: concurrent pulls of one image download it once
    """

    def __init__(self, data: DataRoot, settings: RegistrySettings, turns: Turns) -> None:
        self.data = data
        self.settings = settings
        self.turns = turns

    def pull(self, request: PullRequest) -> list[Image]:
        """Pull images from the first endpoint that has them: the mirrors, then the registry.

        Raises ImageNotFound, Unauthorized, Unreachable, InvalidArchive, and InvalidInput for an invalid platform.
        """
        reference = request.reference
        if request.platform:
            Platform.parse(request.platform, architecture=machine_architecture())
        failures: list[LabError] = []
        for endpoint in self.settings.endpoints(reference.domain):
            try:
                with transfers.opened(
                    self.settings, reference, endpoint, request.auth, emit=self.data.emit
                ) as registry:
                    return _Pull(self, request, Repository(registry, reference.path)).run()
            except (RegistryFailed, NotFound, InvalidArchive) as error:
                failures.append(error)
        raise _translated(failures[-1], reference) from failures[-1]

    def look_up(self, reference: Reference, auth: AuthConfig | None) -> tuple[Descriptor, list[str]]:
        """Return an image's manifest or index, and its platforms, from the first endpoint that has the image.

        Platforms are texts such as "linux/amd64". Raises as pull().
        """
        failures: list[LabError] = []
        for endpoint in self.settings.endpoints(reference.domain):
            try:
                with transfers.opened(self.settings, reference, endpoint, auth, emit=self.data.emit) as registry:
                    return _describe(Repository(registry, reference.path), reference)
            except (RegistryFailed, NotFound) as error:
                failures.append(error)
        last = failures[-1]
        raise ImageNotFound(last.message, hint=last.hint) if isinstance(last, ManifestUnknown) else last


def _describe(repository: Repository, reference: Reference) -> tuple[Descriptor, list[str]]:
    fetched = repository.manifest(reference.digest or reference.tag or DEFAULT_TAG)
    descriptor = Descriptor(fetched.kind, fetched.digest, len(fetched.raw))
    if fetched.kind in manifests.INDEXES:
        listed = manifests.parse_index(fetched.raw)
        return descriptor, [str(Platform.of(entry.platform)) for entry in listed if entry.platform]
    config = manifests.parse_manifest(fetched.raw).config
    document = ImageConfig.parse(repository.document(config.digest, config.size)).document
    return descriptor, [str(Platform.of(document))]


class _Pull:
    """One pull from one endpoint."""

    def __init__(self, puller: Puller, request: PullRequest, repository: Repository) -> None:
        self._data = puller.data
        self._turns = puller.turns
        self._request = request
        self._repository = repository
        # Two reports: pulls of the same image join the report of its layers, but not each other's messages.
        self._report = ProgressReport(self._data.emit, request.progress)
        self._layer_report = ProgressReport(self._data.emit, request.progress)
        here = machine_architecture()
        self._platform = Platform.parse(request.platform or f"linux/{here}", architecture=here)
        self._has_changed = False

    def run(self) -> list[Image]:
        """Pull every requested image."""
        reference = self._request.reference
        if self._request.all_tags:
            requested = self._all_tags()
            if not requested:
                raise ImageNotFound(f"the repository {reference.repository} has no tags", hint="check its name")
        else:
            requested = [replace(reference, tag=None) if reference.digest else reference]
        images = [self._pull(each) for each in requested]
        name = reference.repository if self._request.all_tags else requested[0].familiar
        status = "Downloaded newer image" if self._has_changed else "Image is up to date"
        self._report.message(f"Status: {status} for {name}")
        return images

    def _all_tags(self) -> list[Reference]:
        """Return a reference for each tag of the repository. Raises InvalidArchive for an invalid tag."""
        try:
            return [self._request.reference.with_tag(tag) for tag in self._repository.tags()]
        except InvalidReference as error:
            raise InvalidArchive(f"the registry lists an invalid tag: {error.message}", hint="pull one tag") from None

    def _pull(self, reference: Reference) -> Image:
        """Pull one image: its manifest and config, the missing layers, then its names."""
        fetched = self._repository.manifest(reference.digest or reference.tag or DEFAULT_TAG)
        self._report.message(f"Pulling from {reference.path}", reference.digest or reference.tag or "")
        manifest = manifests.parse_manifest(self._choose_platform(fetched, reference).raw)
        manifests.check_layers(manifest)
        turn = self._turns.take(manifest.config.digest, self._layer_report, self._request.progress)
        with turn, making(self._data) as lease:
            config = self._config(manifest, reference)
            if not self._data.images.exists(config.id):
                self._pull_layers(config, manifest.layers, reference, lease)
            image = self._add(config, reference, fetched.digest)
        self._report.message(f"Digest: {fetched.digest}")
        return image

    # -- manifest and config -----------------------------------------------------------------------

    def _choose_platform(self, fetched: FetchedManifest, reference: Reference) -> FetchedManifest:
        """Follow indexes to the manifest for the requested platform."""
        for _ in range(MAX_INDEX_DEPTH):
            if fetched.kind not in manifests.INDEXES:
                return fetched
            choice = manifests.choose(manifests.parse_index(fetched.raw), self._platform)
            if choice is None:
                raise ImageNotFound(
                    f"no matching manifest for {self._platform} in the manifest list entries",
                    hint="pull another platform with --platform, or choose an image for this one",
                )
            fetched = self._repository.manifest(choice.digest)
        raise InvalidArchive(f"the indexes of {reference.familiar} list indexes without end", hint="do not trust it")

    def _config(self, manifest: Manifest, reference: Reference) -> ImageConfig:
        """Return the image's config, from the store if it has it, else from the registry."""
        digest = manifest.config.digest
        if self._data.images.exists(digest):
            config = lookup.config(self._data, digest)
        else:
            config = ImageConfig.parse(self._fetch_config(manifest))
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
                hint="leave --platform out, or choose an image for that platform",
            )
        return config

    def _fetch_config(self, manifest: Manifest) -> bytes:
        """Fetch the config's bytes. Raises InvalidArchive if the manifest says that it is too long."""
        size = manifest.config.size
        if size > LONGEST_CONFIG:
            raise InvalidArchive(
                f"the image's config has {size} bytes, more than {LONGEST_CONFIG}", hint="do not trust it"
            )
        return self._repository.document(manifest.config.digest, size)

    # -- layers ------------------------------------------------------------------------------------

    def _pull_layers(
        self, config: ImageConfig, blobs: Sequence[Descriptor], reference: Reference, lease: Lease
    ) -> None:
        """Register every layer. Layers at the bottom that are already stored are not downloaded."""
        known, chain_id = self._count_known(config, lease)
        for blob in blobs[:known]:
            self._layer_report.layer(blob.digest, "Already exists")
        limit = compression.Limit(None, self._data.path)
        with self._data.scratch() as scratch, Downloads(self._repository.registry) as queue:
            downloads = self._start_downloads(queue, blobs[known:], scratch)
            for blob, diff_id in zip(blobs[known:], config.diff_ids[known:], strict=True):
                chain_id = self._register(downloads[blob.digest], diff_id, chain_id, lease, limit)
                if blob.media_type.endswith(
                    "gzip"
                ):  # push() gives all blobs that it sends or mounts the media type gzip
                    self._data.distribution.add(diff_id, KnownBlob(blob.digest, transfers.full_name(reference)))

    def _count_known(self, config: ImageConfig, lease: Lease) -> tuple[int, str]:
        """Return how many layers from the bottom are stored, and the chain id of the topmost of them."""
        chain_id = ""
        for position, diff_id in enumerate(config.diff_ids):
            layer = self._data.layers.find(chain_id, diff_id, lease)
            if layer is None:
                return position, chain_id
            chain_id = layer.chain_id
        return len(config.diff_ids), chain_id

    def _start_downloads(
        self, queue: Downloads, blobs: Sequence[Descriptor], scratch: Path
    ) -> Mapping[str, BlobDownload]:
        """Queue a download for each different blob; returns the downloads by digest."""
        downloads = {
            digest: BlobDownload(self._repository, blob, scratch, self._download_report(digest))
            for digest, blob in {blob.digest: blob for blob in blobs}.items()
        }
        for position, digest in enumerate(downloads):
            self._layer_report.layer(digest, "Pulling fs layer")
            if position >= queue.concurrency:
                self._layer_report.layer(digest, "Waiting")
        queue.start(list(downloads.values()))
        return downloads

    def _download_report(self, digest: str) -> transfers.Count:
        return lambda status, current, total: self._layer_report.layer(digest, status, current, total)

    def _register(
        self, download: BlobDownload, diff_id: str, parent: str, lease: Lease, limit: compression.Limit
    ) -> str:
        """Unpack one layer while it is downloaded; returns its chain id."""
        blob = download.blob
        count = self._layer_report.counter(blob.digest, "Extracting", blob.size)
        # docker extracts after the download, so "Extracting" is reported only once the download is complete.
        stream = download.reader(lambda done: count(done) if download.is_complete else None)

        def check(actual: str) -> None:
            download.verified()
            if actual != diff_id:
                raise InvalidArchive(
                    f"the layer {blob.digest} has the diff id {actual}, but the config wants {diff_id}",
                    hint="the image is damaged",
                )

        try:
            with compression.ReadAhead(limit.stream(compression.decompressed(cast(BinaryIO, stream)))) as plain:
                layer = layer_content.register(
                    self._data.layers, TarReader(cast(BinaryIO, plain)), parent, lease, check=check
                )
        except InvalidArchive:
            download.verified()  # a wrong digest is the more precise error: it explains the damaged content
            raise
        self._layer_report.layer(blob.digest, "Pull complete")
        return layer.chain_id

    # -- image and names ---------------------------------------------------------------------------

    def _add(self, config: ImageConfig, reference: Reference, digest: str) -> Image:
        """Add the image under the registry's name with the digest and, if it has a tag, under the requested name."""
        by_digest = replace(reference, tag=None, digest=digest)
        names = [by_digest] if reference.digest else [by_digest, reference]
        self._has_changed |= self._data.images.resolve(reference) != config.id
        image_id = creation.store(self._data, config, names)
        report(self._data, "pulled", image_id, names[-1].familiar)
        return Image(self._data, image_id)


def _translated(error: LabError, reference: Reference) -> LabError:
    """Return a registry's error in the words that Docker's clients match on (moby, distribution/errors.go)."""
    hint = error.hint
    if isinstance(error, ManifestUnknown):
        subject = f"manifest for {reference.familiar}"
        if error.code == "NAME_UNKNOWN":
            subject = f"repository {reference.repository}"
        return ImageNotFound(f"{subject} not found: {error.message}", hint=hint)
    if isinstance(error, RegistryFailed) and error.code == "DENIED":
        return ImageNotFound(
            f"pull access denied for {reference.repository}, repository does not exist or may require "
            f"'docker login': {error.message}",
            hint="check the name, or log in with labctr login [REGISTRY]",
        )
    return error
