"""`engine.images`: docker-py's names for what images/, build/ and registry/ do."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from pylab_container.errors import InvalidInput
from pylab_container.events import Emit, PushResult
from pylab_container.images import lookup
from pylab_container.oci import reference as references
from pylab_container.oci.image import ImageConfig
from pylab_container.registry.turns import Turns
from pylab_container.store.data_root import DataRoot

if TYPE_CHECKING:
    from pylab_container.build.recipe import BuildOptions
    from pylab_container.docker.filters import Filters
    from pylab_container.images.image import HistoryEntry, Image
    from pylab_container.images.obtain import PullPolicy
    from pylab_container.images.removal import Removal
    from pylab_container.maintenance.pruning import Pruned
    from pylab_container.oci.manifest import Descriptor
    from pylab_container.registry.pull import Puller
    from pylab_container.registry.settings import RegistrySettings

    Build = Callable[[str | Path | BinaryIO, BuildOptions], Image]


class ImageCollection:
    """All images of one engine."""

    def __init__(self, data: DataRoot, *, registries: Callable[[], RegistrySettings], build: Build) -> None:
        """registries reads the settings on first use; build builds an image (engine/builds.py)."""
        self._data = data
        self._registries, self._build = registries, build
        self._turns = Turns()

    @property
    def _puller(self) -> Puller:
        from pylab_container.registry.pull import Puller

        return Puller(self._data, self._registries(), self._turns)

    # -- import and create -------------------------------------------------------------------------

    def import_(
        self,
        source: str | Path | BinaryIO,
        name: str | None = None,
        *,
        message: str = "",
        changes: str | Sequence[str] = (),
        max_size: int | None = None,
    ) -> Image:
        """Make a base image from a tar of a root file system.

        source    a path, an open binary stream, or "-" for standard input; uncompressed or compressed with gzip,
                  bzip2, xz or zstd
        name      the image's name; without a name it has only its id
        message   the comment in the image's history
        changes   Dockerfile instructions for the image's config: 'CMD ["sh"]', "ENV A=1"
        max_size  maximum size of the unpacked archive in bytes; default: 95 % of the free space of the data root's disk

        The stream is read once: it is hashed, extracted and recorded in the same pass. Raises InvalidArchive,
        InvalidReference, InvalidInput; then the attempt is rolled back.
        """
        from pylab_container.images.import_ import import_

        return import_(self._data, source, name, message=message, changes=changes, max_size=max_size)

    def add(
        self, config: ImageConfig, name: references.Reference | None = None, *, parent: str = "", action: str = "added"
    ) -> Image:
        """Make an image from a config whose layers are registered, and name it.

        Raises Conflict if the layers or the parent were removed concurrently.
        """
        from pylab_container.images import creation
        from pylab_container.images.image import Image

        return Image(self._data, creation.add(self._data, config, name, parent=parent, action=action))

    # -- registries --------------------------------------------------------------------------------

    def pull(
        self,
        repository: str,
        tag: str | None = None,
        *,
        platform: str = "",
        auth_config: Mapping[str, str] | None = None,
        progress: Emit | None = None,
    ) -> Image:
        """Pull an image from a registry and return it.

        pull_all_tags() is docker-py's pull(all_tags=True).

        repository   a name, with a tag or digest unless `tag` has it
        tag          a tag, or a digest "sha256:…"; default "latest"
        platform     "linux/arm64"; default: this machine's
        auth_config  {"username": …, "password": …}; default: the credentials in docker's config.json
        progress     receives the events of this pull only

        Raises ImageNotFound, Unauthorized, Unreachable, InvalidArchive, InvalidReference; then the attempt is rolled
        back.
        """
        from pylab_container.registry.pull import PullRequest

        request = PullRequest(_tagged(repository, tag), platform=platform, auth=auth_config, progress=progress)
        return self._puller.pull(request)[0]

    def pull_all_tags(
        self,
        repository: str,
        *,
        platform: str = "",
        auth_config: Mapping[str, str] | None = None,
        progress: Emit | None = None,
    ) -> builtins.list[Image]:
        """Pull every tag of a repository: docker-py's pull(all_tags=True).

        Arguments and errors are pull()'s.
        """
        from pylab_container.registry.pull import PullRequest

        request = PullRequest(
            references.parse(repository), all_tags=True, platform=platform, auth=auth_config, progress=progress
        )
        return self._puller.pull(request)

    def push(
        self,
        repository: str,
        tag: str | None = None,
        *,
        all_tags: bool = False,
        auth_config: Mapping[str, str] | None = None,
        progress: Emit | None = None,
    ) -> builtins.list[PushResult]:
        """Send an image to the registry of its name; returns a result for each manifest.

        all_tags  every tag that the repository has here; the other arguments are those of pull()

        Raises ImageNotFound, Unauthorized, Unreachable, RegistryFailed.
        """
        from pylab_container.registry.push import PushRequest, push

        request = PushRequest(_tagged(repository, tag), all_tags, auth_config, progress)
        return push(self._data, self._registries(), request)

    def obtain(
        self,
        name: str,
        *,
        pull: PullPolicy = "missing",
        platform: str = "",
        auth_config: Mapping[str, str] | None = None,
        progress: Emit | None = None,
    ) -> Image:
        """Return the image with this name, pulled if it is missing, or always.

        Raises what get() and pull() raise; ImageNotFound if the image is missing and its registry is unreachable.
        """
        from pylab_container.images.obtain import obtain

        pull_image = partial(self.pull, name, platform=platform, auth_config=auth_config, progress=progress)
        return obtain(self._data, name, pull, pull_image, progress=progress)

    def get_registry_data(
        self, name: str, *, auth_config: Mapping[str, str] | None = None
    ) -> tuple[Descriptor, builtins.list[str]]:
        """Return a registry's manifest or index of an image, and its platforms ("linux/amd64").

        Raises as pull().
        """
        return self._puller.look_up(references.parse(name), auth_config)

    def search(self, term: str) -> NoReturn:
        """Always raises InvalidInput: the distribution protocol has no search."""
        raise InvalidInput(
            f'cannot search for "{term}": a registry can list the tags of a repository, but not search for one',
            hint="look on the registry's web page, then: labctr pull NAME",
        )

    # -- save and load -----------------------------------------------------------------------------

    def save(
        self,
        names: str | Sequence[str],
        output: str | Path | BinaryIO,
        *,
        format: str = "docker-archive",
        compress: str = "",
    ) -> None:
        """Write images with their layers and names into one archive.

        names     names or ids; the name of a repository selects all its tags
        output    a path, or an open binary stream
        format    "docker-archive" (a tar that is an OCI image layout too), "oci-archive" (a tar that is only an OCI
                  image layout) or "oci-dir" (the layout as a directory)
        compress  "gzip" or "zstd" compresses the layers. Docker reads gzip, the OCI defines both; the digests of
                  compressed blobs are not diff ids.

        Raises ImageNotFound, InvalidInput; then a file that was begun is removed.
        """
        from pylab_container.images.save import save

        save(self._data, [names] if isinstance(names, str) else names, output, format=format, compress=compress)

    def stream(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yield the Docker archive that save() writes, in pieces.

        Raises ImageNotFound, InvalidInput.
        """
        from pylab_container.images.save import stream

        return stream(self._data, names)

    def load(self, source: str | Path | BinaryIO, *, max_size: int | None = None) -> builtins.list[Image]:
        """Store the images and names of an archive that `save`, docker, podman or skopeo wrote.

        source    a path of a tar (compressed or not) or of an OCI image layout, an open binary stream, or "-" for
                  standard input
        max_size  as for import_()

        Every digest is verified before a layer is registered. Raises InvalidArchive; then the image in question is
        rolled back.
        """
        from pylab_container.images.load import load

        return load(self._data, source, max_size=max_size)

    def prune(self, filters: Filters | None = None) -> Pruned:
        """Remove images without a name, and with dangling=False all that no container uses.

        filters  dangling, until ("24h", or a moment), label, label! ("name" or "name=value")

        Raises InvalidInput for an unknown filter.
        """
        from pylab_container.maintenance import pruning

        return pruning.prune_images(self._data, filters or {})

    # -- build -------------------------------------------------------------------------------------

    def build(
        self,
        context: str | Path | BinaryIO,
        *,
        tag: str | Sequence[str] | None = None,
        dockerfile: str | Path | BinaryIO | None = None,
        buildargs: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        target: str = "",
        nocache: bool = False,
        cache_from: Sequence[str] = (),
        network_mode: str = "",
        extra_hosts: Mapping[str, str] | None = None,
        platform: str = "",
        secrets: Mapping[str, str | Path | bytes] | None = None,
        pull: bool = False,
    ) -> Image:
        """Build an image from a Dockerfile; its `build_report` has the steps.

        context       the folder whose files COPY and ADD may use; or a stream ("-": standard input) with a tar of the
                      folder or a single Dockerfile; or the URL of one of these, or of a git repository:
                      "https://host/name.git#branch:folder"
        tag           the image's name, or a list of names
        dockerfile    the Dockerfile, inside the context or not; "-" or a stream; default: the context's Dockerfile
        buildargs     values for ARG
        labels        labels to add
        target        the stage to build, by name or number; default: the last one
        nocache       execute every step
        cache_from    the only images that steps may be taken from
        network_mode  of RUN: "bridge", "none", "host" or the name of a network
        extra_hosts   addresses by name, for RUN
        platform      "linux/amd64": the target in the automatic arguments
        secrets       the content for RUN --mount=type=secret, by id: a path, or the bytes
        pull          pull newer base images; missing ones are always pulled

        Raises DockerfileError, ImageNotFound, BuildFailed.
        """
        from pylab_container.build.recipe import BuildOptions

        names = (tag,) if isinstance(tag, str) else tuple(tag or ())
        options = BuildOptions(
            names=tuple(references.parse_tag(name) for name in names),
            dockerfile=dockerfile,
            buildargs=dict(buildargs or {}),
            labels=dict(labels or {}),
            target=target,
            nocache=nocache,
            cache_from=tuple(cache_from),
            network=network_mode,
            extra_hosts=tuple(f"{name}:{address}" for name, address in (extra_hosts or {}).items()),
            platform=platform,
            secrets=dict(secrets or {}),
            pull=pull,
        )
        return self._build(context, options)

    # -- find --------------------------------------------------------------------------------------

    def get(self, name: str) -> Image:
        """Return the image with this name, id or beginning of an id.

        Raises ImageNotFound, and InvalidInput for the beginning of several ids.
        """
        from pylab_container.images.image import Image

        return Image(self._data, lookup.find(self._data, name))

    def list(self, name: str | None = None, *, all: bool = False) -> builtins.list[Image]:
        """List the images, the newest first.

        An image with a damaged config or layer is left out and reported.

        name  only the images of this repository, or the image with exactly this name
        all   also the intermediate images of builds
        """
        from pylab_container.images.image import Image

        return [Image(self._data, image_id) for image_id in lookup.list_ids(self._data, name, all=all)]

    def config(self, image_id: str) -> ImageConfig:
        """Return the config of the image with this full id.

        Raises ImageNotFound, and CorruptStore if a name points to the missing image.
        """
        return lookup.config(self._data, image_id)

    def check_parent(self, image_id: str) -> None:
        """Raise CorruptStore if the note of an image's parent is damaged or wrong."""
        lookup.check_parent(self._data, image_id)

    def ancestors(self, image_id: str) -> Iterator[str]:
        """Yield the image itself, then the images that it was built on and that are stored here."""
        return lookup.ancestors(self._data, image_id)

    def history(self, name: str) -> Sequence[HistoryEntry]:
        """Return the steps that made the named image, the newest first. Raises ImageNotFound."""
        return self.get(name).history()

    # -- name and remove ---------------------------------------------------------------------------

    def tag(self, image: Image | str, name: str) -> None:
        """Give an image one more name. Raises ImageNotFound, InvalidReference."""
        from pylab_container.images import naming
        from pylab_container.images.image import Image

        references.parse_tag(name)  # an invalid name is reported before a missing image
        naming.tag(self._data, image.id if isinstance(image, Image) else lookup.find(self._data, image), name)

    def remove(self, name: str | Image, *, force: bool = False, noprune: bool = False) -> builtins.list[Removal]:
        """Remove a name, and with the last name the image and the layers that only it needs.

        force    also remove an image with names in several repositories, or one that stopped containers use; and
                 remove the last name of an image that any container uses
        noprune  keep untagged parents

        Raises ImageNotFound, and InUse with the reason if a container or another image needs the image.
        """
        from pylab_container.images.image import Image
        from pylab_container.images.removal import remove

        return remove(self._data, name.id if isinstance(name, Image) else name, force=force, noprune=noprune)


def _tagged(repository: str, tag: str | None) -> references.Reference:
    """Return the reference of a name with a separate tag or digest."""
    if not tag:
        return references.parse(repository)
    return references.parse(f"{repository}{'@' if ':' in tag else ':'}{tag}")
