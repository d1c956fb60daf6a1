"""The same Dockerfile, built by docker's classic builder and by ours, on the same base image."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pylab_container import Engine
from pylab_container.images.image import Image
from tests.support.dockerd import Docker

DOCKERFILES = {
    "httpd, as in the tutorial": """\
FROM busybox:1
RUN mkdir -p /var/www && echo installed > /var/www/installed
RUN rm /bin/plain
COPY index.html /var/www/html/index.html
EXPOSE 80
CMD ["httpd", "-f", "-h", "/var/www/html"]
""",
    "nginx, as in the tutorial": """\
FROM busybox:1
MAINTAINER student <student@example.org>
RUN echo nginx > /etc/nginx.conf \\
    && ln -s /dev/stdout /var/access.log
ADD site /srv/
EXPOSE 80 443
CMD httpd -f
""",
    "one of each": """\
FROM busybox:1
ARG version=1.2
ARG unset
ENV A="1 2" B=$version C=x
ENV LEGACY some text
LABEL kit=lab "with space"="a b" path=$A
WORKDIR /srv
WORKDIR sub/dir
COPY index.html site/a ./
COPY site /copied
ADD archive.tar.gz /unpacked
ADD index.html $C/
USER student
RUN echo $A $B $version > /tmp/made; mkdir /tmp/d
USER 0:0
EXPOSE 80/tcp 53/udp
VOLUME /data /other
VOLUME ["/more", "/$C"]
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-ec"]
RUN touch /shell
ENTRYPOINT ["sh", "-c"]
CMD ["echo $A"]
""",
}


@pytest.fixture
def context(tmp_path: Path) -> Path:
    top = tmp_path / "context"
    (top / "site/below").mkdir(parents=True)
    (top / "index.html").write_text("<h1>hello</h1>\n")
    (top / "site/a").write_text("a")
    (top / "site/below/script").write_text("#!/bin/sh\n")
    (top / "site/below/script").chmod(0o750)
    (top / "site/link").symlink_to("a")
    subprocess.run(["tar", "-C", top, "-czf", top / "archive.tar.gz", "site"], check=True)
    return top


@pytest.mark.parametrize("name", DOCKERFILES)
def test_the_image_is_docker_s(
    engine: Engine, image: Image, context: Path, empty_dockerd: Docker, tmp_path: Path, name: str
) -> None:
    (context / "Dockerfile").write_text(DOCKERFILES[name])
    ours = engine.images.build(context, tag="built:1")
    engine.images.save("busybox:1", tmp_path / "base")
    empty_dockerd.run("load", "--input", tmp_path / "base")
    empty_dockerd.run("build", "--network=none", "--tag=built:1", context)
    (theirs,) = empty_dockerd.json("inspect", "built:1")
    config = empty_dockerd.config(theirs["Id"])
    empty_dockerd.run("create", "--name=box", "--network=none", "built:1")
    their_tree = empty_dockerd.run("export", "box")
    ours_config, theirs_config = dict(ours.config.config), dict(config["config"])
    assert {**ours_config, "Image": ""} == {**theirs_config, "Image": ""}
    assert ours.config.author == config.get("author", "")
    assert [steps(step) for step in ours.config.history] == [steps(step) for step in config["history"]]
    box = engine.containers.create(ours, network_mode="none")
    assert listing(b"".join(box.export())) == listing(their_tree)


def steps(step: dict[str, Any]) -> tuple[Any, ...]:
    """Return the steps of a history without times and without digests of copied files."""
    text = re.sub(r"(file|dir|multi):[0-9a-f]{64}", r"\1:", step.get("created_by", ""))
    return text, step.get("empty_layer", False), step.get("comment", ""), step.get("author", "")


def listing(archive: bytes) -> list[str]:
    """Return mode, owner, size, name and link target of each member; a directory's size is left out."""
    shown = subprocess.run(
        ["tar", "--numeric-owner", "-tvf", "-"], input=archive, capture_output=True, check=True
    ).stdout.decode()
    lines = (line.split(maxsplit=5) for line in shown.splitlines())
    return sorted(f"{mode} {owner} {size} {name}" for mode, owner, size, _, _, name in lines)
