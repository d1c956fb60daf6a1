"""Images: import, list, find, tag, remove, look into.

`ImageCollection` and `Image` carry docker-py's names, so what a student learns here
works with the real Docker.
"""

from __future__ import annotations

import builtins
import contextlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, NoReturn

from msgspec import Struct
from msgspec.structs import replace

from pylab_container.errors import (
    Conflict,
    CorruptStore,
    ImageNotFound,
    InUse,
    InvalidInput,
    InvalidReference,
    Unreachable,
)
from pylab_container.events import Emit, ImageChanged, PushResult, StoreDamaged, TransferMessage
from pylab_container.host.files import locked
from pylab_container.images.image import DOCKER_VERSION, HistoryEntry, Image, machine_architecture
from pylab_container.maintenance import recovery
from pylab_container.oci import reference as references
from pylab_container.oci.ids import Digest
from pylab_container.oci.image import ImageConfig, first_config
from pylab_container.registry.turns import Turns
from pylab_container.store.damage import ReportingDamage
from pylab_container.store.image_store import Tag
from pylab_container.store.leases import Lease
from pylab_container.store.reading import corrupt

if TYPE_CHECKING:
    from pylab_container.docker.filters import Filters
    from pylab_container.engine import Engine
    from pylab_container.maintenance.pruning import Pruned
    from pylab_container.oci.manifest import Descriptor
    from pylab_container.store.container_store import ContainerRecord

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})\Z")


class Removal(Struct, frozen=True):
    """One thing that removing an image did: `action` is "Untagged" or "Deleted"."""

    action: str
    name: str


@contextlib.contextmanager
def _opened(source: str | Path | BinaryIO) -> Iterator[tuple[BinaryIO, str]]:
    """The stream to import, and what to call it in the image's history."""
    if source == "-":
        yield sys.stdin.buffer, "-"
    elif isinstance(source, str | Path):
        try:
            stream = Path(source).open("rb", buffering=0)  # noqa: SIM115 (closed by the with below)
        except FileNotFoundError:
            raise InvalidInput(
                f"no such file: {source}", hint="give the path of a tar archive, or - for standard input"
            ) from None
        except OSError as error:
            raise InvalidInput(f"cannot read {source}: {error.strerror}", hint="is it a file?") from error
        with stream:
            yield stream, Path(source).name
    else:
        yield source, "-"


class ImageCollection:
    """All images of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.turns = Turns()

    # ---- import ----

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

        source   a path, an open binary stream, or "-" for standard input; plain or
                 compressed with gzip, bzip2, xz or zstd
        name     what to call the image; without one it has only its id
        message  the comment in the image's history
        changes  Dockerfile instructions for the image's config: 'CMD ["sh"]', "ENV A=1"
        max_size bytes that the archive may unpack to; by default what the disk has free, but for a twentieth

        The stream is read once: hashed, extracted and recorded in the same pass. Raises
        InvalidArchive, InvalidReference, InvalidInput; then nothing is left of the attempt.
        """
        from pylab_container.images import configuration
        from pylab_container.store import compression, layer_content
        from pylab_container.store.layertar import TarReader

        target = references.parse_tag(name) if name else None
        config = configuration.apply({}, changes)
        limit = compression.Limit(max_size, self._engine.data.path)
        with recovery.making(self._engine) as lease:
            with self.opened(source) as (stream, origin), limit.stream(compression.decompressed(stream)) as plain:
                layer = layer_content.register(self._engine.data.layers, TarReader(plain), "", lease)
            imported = first_config(
                diff_id=layer.diff_id,
                created=self._engine.data.now(),
                comment=message or f"Imported from {origin}",
                architecture=machine_architecture(),
                version=DOCKER_VERSION,
                config=config,
            )
            return self.add(imported, target, action="imported")

    def add(
        self, config: ImageConfig, name: references.Reference | None = None, *, parent: str = "", action: str = "added"
    ) -> Image:
        """Make an image out of a config whose layers are registered, and name it.

        Raises Conflict where the layers or the parent were removed meanwhile.
        """
        image = self._add(config, [name] if name else [], parent=parent)
        if name:
            self._engine.data.images.touch(image.id, self._engine.data.now())
        self.tell(action, image.id, name.familiar if name else "")
        return image

    def add_pulled(self, config: ImageConfig, names: Sequence[references.Reference]) -> Image:
        """The same for an image from a registry, with all its names; the last is the one that was asked for."""
        image = self._add(config, names)
        self.tell("pulled", image.id, names[-1].familiar)
        return image

    def _add(self, config: ImageConfig, names: Sequence[references.Reference], *, parent: str = "") -> Image:
        with self.commit_lock():
            if config.chain_id and not self._engine.data.layers.exists(config.chain_id):
                raise Conflict("the image's layers were removed meanwhile", hint="do it again")
            if parent and not self._engine.data.images.exists(parent):
                raise Conflict("the image below was removed meanwhile", hint="do it again")
            image_id = self._engine.data.images.add(config, parent=parent)
            for name in names:
                self._engine.data.images.tag(name, image_id)
        return Image(self._engine, image_id)

    # ---- registries ----

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

        repository   a name, with its tag or digest if tag does not say it
        tag          a tag, or a digest "sha256:…"; default "latest"
        platform     "linux/arm64"; by default this machine's
        auth_config  {"username": …, "password": …}; by default what docker's config.json knows
        progress     is called with the events of this pull alone

        Raises ImageNotFound, Unauthorized, Unreachable, InvalidArchive, InvalidReference; then nothing is left
        of the attempt.
        """
        from pylab_container.registry.pull import PullRequest, pull

        request = PullRequest(_tagged(repository, tag), platform=platform, auth=auth_config, progress=progress)
        return pull(self._engine, request)[0]

    def pull_all_tags(
        self,
        repository: str,
        *,
        platform: str = "",
        auth_config: Mapping[str, str] | None = None,
        progress: Emit | None = None,
    ) -> builtins.list[Image]:
        """Pull every tag of a repository: docker-py's pull(all_tags=True). Arguments and errors are pull()'s."""
        from pylab_container.registry.pull import PullRequest, pull

        request = PullRequest(
            references.parse(repository), all_tags=True, platform=platform, auth=auth_config, progress=progress
        )
        return pull(self._engine, request)

    def push(
        self,
        repository: str,
        tag: str | None = None,
        *,
        all_tags: bool = False,
        auth_config: Mapping[str, str] | None = None,
        progress: Emit | None = None,
    ) -> builtins.list[PushResult]:
        """Send an image to the registry that its name says; returns the tags, digests and sizes of the manifests.

        all_tags  every tag that the repository has here; the others are as for pull()

        Raises ImageNotFound, Unauthorized, Unreachable, RegistryFailed.
        """
        from pylab_container.registry.push import PushRequest, push

        return push(self._engine, PushRequest(_tagged(repository, tag), all_tags, auth_config, progress))

    def obtain(
        self,
        name: str,
        *,
        pull: Literal["missing", "always", "never"] = "missing",
        platform: str = "",
        auth_config: Mapping[str, str] | None = None,
        progress: Emit | None = None,
    ) -> Image:
        """The image of this name, brought from its registry if it is missing, or always.

        Raises what get() and pull() raise; an image that is missing while nobody can be asked is ImageNotFound.
        """
        if pull == "always":
            return self.pull(name, platform=platform, auth_config=auth_config, progress=progress)
        try:
            return self.get(name)
        except ImageNotFound as missing:
            if pull == "never":
                raise
            if progress:
                progress(TransferMessage(f"Unable to find image '{references.parse(name).familiar}' locally"))
            try:
                return self.pull(name, platform=platform, auth_config=auth_config, progress=progress)
            except Unreachable as error:
                message = f"{missing.message}, and it cannot be pulled: {error.message}"
                raise ImageNotFound(message, hint=missing.hint) from error

    def get_registry_data(
        self, name: str, *, auth_config: Mapping[str, str] | None = None
    ) -> tuple[Descriptor, builtins.list[str]]:
        """What a registry says of an image: its manifest or index, and the platforms that it has, "linux/amd64".

        Raises as pull() does.
        """
        from pylab_container.registry.pull import look_up

        return look_up(self._engine, references.parse(name), auth_config)

    def search(self, term: str) -> NoReturn:
        """Always raises InvalidInput: the protocol of registries has no search."""
        raise InvalidInput(
            f'cannot search for "{term}": a registry can list the tags of a repository, but not search for one',
            hint="look on the registry's web page, then: labctr pull NAME",
        )

    # ---- save and load ----

    def save(
        self,
        names: str | Sequence[str],
        output: str | Path | BinaryIO,
        *,
        format: str = "docker-archive",
        compress: str = "",
    ) -> None:
        """Write images with their layers and names into one archive.

        names     names or ids; a repository's name stands for all its tags
        output    a path, or an open binary stream
        format    "docker-archive" (a tar that is an OCI image layout too), "oci-archive" (a tar
                  that is nothing but that) or "oci-dir" (the layout as a directory)
        compress  "gzip" or "zstd" packs the layers; docker reads gzip, and both are OCI's, but ids
                  of blobs then say nothing about diff ids

        Raises ImageNotFound, InvalidInput; a file that was begun is then removed.
        """
        from pylab_container.images import archives

        wanted = [names] if isinstance(names, str) else list(names)
        archives.save(self._engine, wanted, output, format=format, compress=compress)

    def stream(self, names: Sequence[str]) -> Iterator[bytes]:
        """The Docker archive that save() writes, in pieces. Raises ImageNotFound."""
        from pylab_container.images import archives

        return archives.stream(self._engine, names)

    def load(self, source: str | Path | BinaryIO, *, max_size: int | None = None) -> builtins.list[Image]:
        """Store the images of an archive that `save`, docker, podman or skopeo wrote, and give them their names.

        source    a path of a tar (compressed or not) or of an OCI image layout, an open binary
                  stream, or "-" for standard input
        max_size  as for import_

        Every digest is verified before a layer is registered. Raises InvalidArchive; then
        nothing is left of the image in question.
        """
        from pylab_container.images import archives

        return archives.load(self._engine, source, max_size)

    def prune(self, filters: Filters | None = None) -> Pruned:
        """Remove the images that nobody needs: those without a name, and with dangling=False all without a container.

        filters  dangling, until ("24h", or a moment), label, label! ("name" or "name=value")

        Raises InvalidInput for a filter that there is not.
        """
        from pylab_container.maintenance import pruning

        return pruning.prune_images(self._engine, filters or {})

    # ---- build ----

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
        """Make an image as a Dockerfile says; what was done is in its `build_report`.

        context       the folder whose files COPY and ADD may use; or a stream, or "-" for standard
                      input: a tar of the folder, or a Dockerfile alone; or a URL of one of these, or of a
                      git repository: "https://host/name.git#branch:folder"
        tag           what to call the image; several names if it is a list
        dockerfile    another file than the context's Dockerfile, inside the context or not; "-" or a stream
        buildargs     values for ARG
        target        the stage to make, by name or number; the last one by default
        nocache       carry out every step anew
        cache_from    the only images that steps may be taken from
        network_mode  of RUN: "bridge", "none" or "host"
        extra_hosts   addresses by name, for RUN
        platform      "linux/amd64": what the automatic arguments say of the target
        secrets       what RUN --mount=type=secret shows, by id: a path, or the bytes themselves
        pull          ask the registry for newer base images; those that are missing are pulled anyway

        Raises DockerfileError, ImageNotFound, BuildFailed.
        """
        from pylab_container.build.builder import BuildOptions, build

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
        return build(self._engine, context, options)

    # ---- find ----

    def get(self, name: str) -> Image:
        """The image with this name, id or beginning of an id. Raises ImageNotFound."""
        found = self._find(name)
        if found is None:
            hint = "labctr images lists what there is"
            if (near := self._nearest(name)) is not None:
                hint = f'did you mean "{near}"?'
            raise ImageNotFound(f"No such image: {name}", hint=hint)
        return Image(self._engine, found)

    def list(self, name: str | None = None, *, all: bool = False) -> builtins.list[Image]:
        """The images, the newest first. A damaged one, or one with a damaged layer, is left out and reported.

        name  only those of this repository, or with this very name
        all   also the intermediate images that a build made on its way
        """
        tagged = {name.image_id for name in self._engine.data.images.shown_names()}
        ids = set(self._engine.data.images.all())
        if name is not None:
            ids = {tag.image_id for tag in self._matching(name)}
        elif not all:
            parents = {self._engine.data.images.shown_parent(image_id) for image_id in ids}
            ids = {image_id for image_id in ids if image_id in tagged or image_id not in parents}
        images = []
        for image_id in ids:
            removed = partial(self._is_removed, image_id)
            with contextlib.suppress(ImageNotFound), ReportingDamage(self._engine.events.emit, removed):
                config = self.config(image_id)
                self._engine.data.layers.chain(config.chain_id)
                images.append((config.created_at, image_id))
        return [Image(self._engine, image_id) for _, image_id in sorted(images, reverse=True)]

    def _is_removed(self, image_id: str) -> bool:
        return not self._engine.data.images.exists(image_id)

    def config(self, image_id: str) -> ImageConfig:
        """The config of the image with this full id. Raises ImageNotFound, CorruptStore if a name points to it."""
        try:
            return self._engine.data.images.get(image_id)
        except KeyError:
            self._engine.data.images.refuse_dangling(image_id)
            raise ImageNotFound(f"No such image: {image_id}", hint="labctr images lists what there is") from None

    def held(self, image_id: str, lease: Lease) -> ImageConfig:
        """The same, and lease claims the image's layers: they stay, even if the image is removed."""
        with self.commit_lock():
            config = self.config(image_id)
            if config.chain_id:
                lease.claim("layer", config.chain_id)
        return config

    def check_parent(self, image_id: str) -> None:
        """Raise CorruptStore if the note which image this one was made from is damaged, or names another image."""
        store = self._engine.data.images
        parent = store.parent(image_id)
        try:
            right = not parent or store.get(image_id).may_be_made_from(store.get(parent))
        except KeyError:
            right = not store.exists(image_id)  # else it is the parent that does not exist
        if not right:
            raise corrupt(store.parent_path(image_id), f"the image was not made from {parent[:19]}")

    def ancestors(self, image_id: str) -> Iterator[str]:
        """The image itself, and those that it was built on, as far as they are known here."""
        seen = set[str]()
        while image_id and image_id not in seen:  # damaged notes may lead in a circle
            seen.add(image_id)
            yield image_id
            image_id = self._engine.data.images.shown_parent(image_id)

    # ---- name and remove ----

    def tag(self, image: Image | str, name: str) -> None:
        """Give an image one more name. Raises ImageNotFound, InvalidReference."""
        target = references.parse_tag(name)
        found = image if isinstance(image, Image) else self.get(image)
        before = self.set_name(found, target)
        self._engine.data.images.touch(found.id, self._engine.data.now())
        if before:
            self.tell("untagged", before, target.familiar)
        self.tell("tagged", found.id, target.familiar)

    def set_name(self, image: Image, name: references.Reference) -> str | None:
        """tag() without a word on the stream of events, and no new LastTagTime, as where a name is loaded.

        Returns the id of the image that had the name, None for no other.
        """
        with self.commit_lock():
            self.config(image.id)
            return self._engine.data.images.tag(name, image.id)

    def remove(self, name: str | Image, *, force: bool = False, noprune: bool = False) -> builtins.list[Removal]:
        """Take a name away, and with the last name the image and what only it needed.

        force    also remove an image with names in several repositories, or one that stopped containers use; and
                 take the last name away from one that any container uses
        noprune  leave untagged parents

        Raises ImageNotFound, and InUse with the reason where somebody needs the image.
        """
        with recovery.making(self._engine) as lease, self.commit_lock():
            text = name.id if isinstance(name, Image) else name
            image = self.get(text)
            names = [known.reference for known in self._engine.data.images.names() if known.image_id == image.id]
            chosen = [reference for reference in names if reference == _key(text)]
            by_id = not chosen
            chosen += _left_alone(chosen, names)
            if chosen and len(chosen) < len(names):
                return [self._untag(reference, image.id) for reference in chosen]
            if not force:
                self._check_certain(image)
            if by_id:
                self._check_removable(image, names, force=force)
            elif not force:
                self._check_unused(image, chosen[0])
            untagged = [self._untag(reference, image.id) for reference in names]
            return untagged + self._delete(image, lease, prune=not noprune, force=force)

    def history(self, name: str) -> Sequence[HistoryEntry]:
        """How the named image came about, the newest step first."""
        return self.get(name).history()

    # ---- how ----

    opened = staticmethod(_opened)
    """The binary stream behind a path, an open stream or "-", and what to call it."""

    def release(self, lease: Lease) -> None:
        """End a lease, and delete the layers that it claims and no image, container, other lease or layer needs."""
        if chains := lease.claimed("layer"):
            # In one step: of two leases on a layer, the one that ends last must see that it is the last.
            with self.commit_lock():
                self._release(chains, lease)
                lease.end()
        else:
            lease.end()

    def _release(self, chains: Iterable[str], lease: Lease) -> builtins.list[Digest]:
        store = self._engine.data.images
        try:
            needed = {chain for image_id in store.all() for chain in store.get(image_id).chain_ids}
        except CorruptStore as error:
            # Nobody knows which layers the damaged image needs; once it is removed, `fsck` finds the rest.
            self._engine.events.emit(StoreDamaged.of(error))
            return []
        return self._engine.data.layers.release(chains, needed, lease)

    def tell(self, action: str, image_id: str, reference: str = "") -> None:
        """Say on the engine's stream of events what happened to an image."""
        labels: Mapping[str, str] = {}
        with contextlib.suppress(ImageNotFound, CorruptStore):
            labels = Image(self._engine, image_id).labels
        self._engine.events.emit(ImageChanged(action, image_id, reference, labels=tuple(labels.items())))

    def commit_lock(self) -> contextlib.AbstractContextManager[None]:
        """Held while an image appears or vanishes, so that no image loses a layer in between."""
        return locked(self._engine.data.locks / "images")

    def _find(self, name: str) -> str | None:
        with contextlib.suppress(InvalidReference):
            if found := self._engine.data.images.resolve(references.parse(name)):
                return found
        match = _ID.match(name)
        if match is None:
            return None
        ids = [image_id for image_id in self._engine.data.images.all() if image_id[7:].startswith(match[1])]
        if len(ids) > 1:
            raise InvalidInput(f'"{name}" is the beginning of {len(ids)} image ids', hint="write more digits")
        return ids[0] if ids else None

    def _nearest(self, name: str) -> str | None:
        import difflib

        names = [tag.reference.familiar for tag in self._engine.data.images.tags()]
        return next(iter(difflib.get_close_matches(name, names, 1)), None)

    def _matching(self, name: str) -> builtins.list[Tag]:
        wanted = references.parse(name)
        explicit = name.endswith(f":{wanted.tag}") or wanted.digest
        return [
            tag
            for tag in self._engine.data.images.shown_names()
            if tag.reference.repository == wanted.repository and (not explicit or tag.reference == wanted)
        ]

    def _untag(self, reference: references.Reference, image_id: str) -> Removal:
        self._engine.data.images.untag(reference)
        self.tell("untagged", image_id, reference.familiar)
        return Removal("Untagged", reference.familiar)

    def _check_removable(self, image: Image, names: Sequence[references.Reference], *, force: bool) -> None:
        """An image that is named by its id: raises InUse where somebody needs it."""
        start = f"conflict: unable to delete {image.id[7:19]}"
        users = self._users(image)
        for record in users:
            if record.pid:
                reason = f"image is being used by running container {record.short_id}"
                raise InUse(f"{start} (cannot be forced) - {reason}", hint=f"labctr rm -f {record.name}")
        if self._children(image.id):
            raise InUse(
                f"{start} (cannot be forced) - image has dependent child images",
                hint="remove the images that were made from it first: labctr images -a",
            )
        if users and not force:
            reason = f"image is being used by stopped container {users[0].short_id}"
            raise InUse(f"{start} (must be forced) - {reason}", hint=f"labctr rm {users[0].name}, or remove it with -f")
        if len({reference.repository for reference in names}) > 1 and not force:
            reason = "image is referenced in multiple repositories"
            raise InUse(f"{start} (must be forced) - {reason}", hint="remove it by name, or with -f")

    def _check_unused(self, image: Image, name: references.Reference) -> None:
        """The last name of an image: raises InUse where a container has it."""
        for record in self._users(image):
            raise InUse(
                f'conflict: unable to remove repository reference "{name.familiar}" (must force) - '
                f"container {record.short_id} is using its referenced image {image.id[7:19]}",
                hint=f"labctr rm {record.name}, or take the name away with -f",
            )

    def _check_certain(self, image: Image) -> None:
        """Raise CorruptStore if a container whose record is damaged may be made of the image."""
        for container_id, error in self._engine.data.records.damaged().items():
            try:
                parent = self._engine.data.layers.writable(container_id).parent
            except CorruptStore:
                raise error from None
            with contextlib.suppress(CorruptStore):
                if parent == image.config.chain_id:
                    raise error

    def _users(self, image: Image) -> builtins.list[ContainerRecord]:
        return [record for record in self._engine.data.records.all() if record.image == image.id]

    def _children(self, image_id: str) -> builtins.list[str]:
        return [child for child in self._engine.data.images.all() if self._is_child(child, image_id)]

    def _is_child(self, child: str, image_id: str) -> bool:
        """Whether an image was made from another one; if the note of that is damaged, whether it may have been."""
        store = self._engine.data.images
        try:
            return store.parent(child) == image_id
        except CorruptStore as error:
            self._engine.events.emit(StoreDamaged.of(error))
        try:
            return child != image_id and store.get(image_id).chain_id in store.get(child).chain_ids
        except (CorruptStore, KeyError):
            return False

    def _delete(self, image: Image, lease: Lease, *, prune: bool, force: bool = False) -> builtins.list[Removal]:
        """Delete an image without names, its layers that nobody else needs, and untagged parents.

        force  also one that stopped containers use: they keep its layers, and their own copy of its configuration
        """
        users = self._users(image)
        if self._children(image.id) or any(record.pid or not force for record in users):
            return []  # the names are gone, the image stays for those who need it
        store = self._engine.data.images
        if not store.exists(image.id):
            return []  # a damaged name pointed to it
        parent, chains = store.shown_parent(image.id), list[str]()
        with contextlib.suppress(CorruptStore):  # a damaged image can be removed, too
            if chain := image.config.chain_id:
                lease.claim("layer", chain)  # killed between here and the release, the lease must still name it
                chains = [chain]
        store.remove(image.id)
        self._engine.events.emit(ImageChanged("deleted", image.id))
        removals = [Removal("Deleted", image.id)]
        removals += [Removal("Deleted", chain) for chain in self._release(chains, lease)]
        tagged = {tag.image_id for tag in store.names() if not tag.reference.digest}
        if prune and parent and parent in set(store.all()) and parent not in tagged:
            removals += self._delete(Image(self._engine, parent), lease, prune=True)
        return removals


def _key(name: str) -> references.Reference | None:
    """The reference that a name is known by: where it has a digest, a tag says nothing."""
    try:
        reference = references.parse(name)
    except InvalidReference:
        return None
    return replace(reference, tag=None) if reference.digest else reference


def _left_alone(
    chosen: Sequence[references.Reference], names: Sequence[references.Reference]
) -> list[references.Reference]:
    """The digests that go with the last tag of their repository, as in moby."""
    repositories = {reference.repository for reference in chosen if not reference.digest}
    kept = {name.repository for name in names if not name.digest and name not in chosen}
    return [name for name in names if name.digest and name.repository in repositories - kept]


def _tagged(repository: str, tag: str | None) -> references.Reference:
    """A name and, where it is given on its own, its tag or digest."""
    if not tag:
        return references.parse(repository)
    return references.parse(f"{repository}{'@' if ':' in tag else ':'}{tag}")
