"""Networks and registries that fail: a pull ends in a clear error or in success, never in a damaged store."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from pylab_container import Engine
from pylab_container.errors import ImageNotFound, InvalidArchive, LabError, RegistryFailed, Unauthorized, Unreachable
from pylab_container.images.image import Image
from pylab_container.oci.image import go_json, sha256
from pylab_container.registry.settings import RegistrySettings, RetryPolicy
from tests.support import faults
from tests.support.faults import Answer, Fault, FaultyProxy, Handler
from tests.support.fixtures import engine_on
from tests.support.registries import RunningRegistry
from tests.support.waiting import PATIENCE, never_within

QUICK = RegistrySettings(
    retry_policy=RetryPolicy(connect_timeout=PATIENCE, read_timeout=PATIENCE, tries=4, delay=0.01, longest_delay=2.5)
)
"""Tries again at once, but waits long for an answer: on a slow machine, too, only the faults of the proxy occur."""
STALLED = replace(QUICK, retry_policy=replace(QUICK.retry_policy, read_timeout=0.3))
"""For connections on which nothing arrives."""
STALLED_FOR_A_WHILE = replace(QUICK, retry_policy=replace(QUICK.retry_policy, read_timeout=0.5, tries=100))
RETRY_AFTER_HOURS = 3600  # seconds; a pull that waited for this long would be noticed on any machine
SIZE = 1_500_000


@pytest.fixture
def proxy(registry: RunningRegistry) -> Iterator[FaultyProxy]:
    """A proxy in front of the registry, without faults."""
    with FaultyProxy(registry.host) as started:
        yield started


@pytest.fixture(scope="module", autouse=True)
def _no_login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use an empty directory for config.json, so that no registry has credentials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKER_CONFIG", str(tmp_path_factory.mktemp("docker-config")))
        yield


@pytest.fixture(scope="module")
def pushed(
    _no_login: None,
    nothing_left_behind: None,
    registry: RunningRegistry,
    busybox_tar: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """The id of faults:1 in the registry: three layers on busybox:1, two of them with SIZE bytes of noise."""
    context = tmp_path_factory.mktemp("context")
    (context / "one").write_bytes(os.urandom(SIZE))
    (context / "two").write_bytes(os.urandom(SIZE))
    (context / "Dockerfile").write_text("FROM busybox:1\nCOPY one /\nCOPY two /\nCOPY Dockerfile /\n")
    with engine_on(tmp_path_factory.mktemp("pushed") / "root") as engine:
        engine.images.import_(busybox_tar, "busybox:1")
        made = engine.images.build(context, tag=f"{registry.host}/faults:1")
        engine.images.push(f"{registry.host}/faults:1")
    return made.id


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Engine]:
    """An engine with short time limits, without images. Its store must be consistent afterwards."""
    engine = Engine(tmp_path / "client")
    engine.registries = QUICK
    yield engine
    assert engine.fsck(deep=True) == []
    assert list((engine.data_root / "tmp").glob("*")) == []
    assert not [thread for thread in threading.enumerate() if thread.name == "download"]
    if not engine.images.list(all=True):
        assert engine.data.layers.all() == []


HARMLESS: dict[str, Callable[[FaultyProxy], None]] = {
    "nothing": lambda proxy: None,
    "401 at first": lambda proxy: proxy.inject(
        faults.status(401, WWW_Authenticate='Basic realm="x"'), path=r"/manifests/", times=1
    ),
    "429 with Retry-After": lambda proxy: proxy.inject(faults.status(429, Retry_After="1"), path=r"/manifests/"),
    "429 in words": lambda proxy: proxy.inject(faults.status(429, Retry_After="tomorrow"), path=r"/blobs/", times=2),
    "500 thrice": lambda proxy: proxy.inject(faults.status(500), path=r"/blobs/", times=3),
    "503 at the ping's next": lambda proxy: proxy.inject(faults.status(503), path=r"/manifests/", times=2),
    "a truncated blob": lambda proxy: proxy.inject(faults.truncated(SIZE // 3), path=r"/blobs/", times=3),
    "a truncated config": lambda proxy: proxy.inject(faults.truncated(10), path=r"/manifests/"),
    "a reset in a blob": lambda proxy: proxy.inject(faults.reset(SIZE // 2), path=r"/blobs/", times=3),
    "a reset before anything": lambda proxy: proxy.inject(faults.reset(0), path=r"/blobs/", times=2),
    "a stalled blob": lambda proxy: proxy.inject(faults.stalled(SIZE // 4), path=r"/blobs/", times=2),
}


@pytest.mark.parametrize("name", list(HARMLESS))
def test_what_passes_is_waited_for(client: Engine, proxy: FaultyProxy, pushed: str, name: str) -> None:
    if "stalled" in name:
        client.registries = STALLED_FOR_A_WHILE
    HARMLESS[name](proxy)
    assert client.images.pull(f"{proxy.host}/faults:1").id == pushed


FATAL: dict[str, tuple[Fault, str, type[LabError], str]] = {
    "401": (faults.status(401, b"{}"), "/manifests/", Unauthorized, "unauthorized: authentication required"),
    "denied": (
        faults.status(403, b'{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}'),
        "/manifests/",
        ImageNotFound,
        r"pull access denied for .*/faults, repository does not exist or may require 'docker login': denied: requested",
    ),
    "404 for a blob": (faults.status(404, b"{}"), "/blobs/", ImageNotFound, "not found"),
    "429 for ever": (faults.status(429, Retry_After="0"), "/manifests/", RegistryFailed, "429"),
    "500 for ever": (faults.status(500, b"<html>"), "/blobs/", RegistryFailed, "unexpected status 500"),
    "a blob with another byte": (faults.corrupted, "/blobs/", InvalidArchive, "verification failed for digest"),
    "a blob that never comes whole": (faults.truncated(0), "/blobs/", Unreachable, "cut off|closed|broken"),
    "resets for ever": (faults.reset(0), "/blobs/", Unreachable, "reset|closed|aborted"),
    "stalled for ever": (faults.stalled(0), "/blobs/", Unreachable, "timeout"),
    "a manifest that stalls": (faults.stalled(5), "/manifests/", Unreachable, "timeout"),
    "a manifest that is not JSON": (
        faults.replaced(b"<html>hello"),
        "/manifests/",
        InvalidArchive,
        "cannot be understood",
    ),
    "a manifest without end": (faults.replaced(b"[" * 100_000), "/manifests/", InvalidArchive, "cannot be understood"),
    "a manifest of numbers": (
        faults.replaced(b'{"config":{"digest":7},"layers":{}}'),
        "/manifests/",
        InvalidArchive,
        "cannot be understood",
    ),
    "a config that is not its digest's": (faults.replaced(b"{}"), "/blobs/", InvalidArchive, "verification failed"),
    "a page of a hotel": (
        faults.status(200, b"<html>pay here", Content_Type="text/html"),
        "/v2/$",
        RegistryFailed,
        "unexpected status 200",
    ),
    "a redirect in a circle": (faults.redirected(""), "/blobs/", RegistryFailed, "redirects"),
}


@pytest.mark.parametrize("name", list(FATAL))
def test_what_does_not_pass_is_a_clear_error(client: Engine, proxy: FaultyProxy, pushed: str, name: str) -> None:
    fault, path, kind, words = FATAL[name]
    if "stall" in name:
        client.registries = STALLED
    proxy.inject(fault, path=path, times=10_000)
    with pytest.raises(kind, match=words) as caught:
        client.images.pull(f"{proxy.host}/faults:1")
    assert caught.value.hint
    assert client.images.list(all=True) == []


def test_a_blob_that_is_longer_than_it_should_be_is_refused(client: Engine, proxy: FaultyProxy, pushed: str) -> None:
    proxy.inject(_layers_only(faults.longer), path="/blobs/", times=100)
    with pytest.raises(InvalidArchive, match="longer than its manifest says"):
        client.images.pull(f"{proxy.host}/faults:1")


def test_a_broken_download_goes_on_where_it_broke(client: Engine, proxy: FaultyProxy, pushed: str) -> None:
    proxy.inject(_layers_only(faults.truncated(SIZE // 2), larger=SIZE), path="/blobs/", times=100)
    # Only the first answers are cut: half of what is left is shorter than SIZE.
    assert client.images.pull(f"{proxy.host}/faults:1").id == pushed
    ranges = [request.headers["range"] for request in proxy.requests_of("GET", "/blobs/") if "range" in request.headers]
    assert len(ranges) == 2
    for asked in ranges:
        assert asked == f"bytes={SIZE // 2}-"


def test_a_registry_that_knows_no_ranges_sends_all_again(client: Engine, proxy: FaultyProxy, pushed: str) -> None:
    proxy.inject(_layers_only(faults.truncated(SIZE // 2), larger=SIZE), path="/blobs/", times=2)

    def without_ranges(handler: Handler, answer: Answer) -> None:
        (faults.range_ignored if answer.status == 206 else faults.unchanged)(handler, answer)

    for _ in range(20):
        proxy.inject(without_ranges, path="/blobs/", times=100)
    assert client.images.pull(f"{proxy.host}/faults:1").id == pushed


def test_retry_after_is_heeded_but_not_for_ever(client: Engine, proxy: FaultyProxy, pushed: str) -> None:
    client.registries = replace(QUICK, retry_policy=replace(QUICK.retry_policy, longest_delay=RETRY_AFTER_HOURS))
    proxy.inject(faults.status(429, Retry_After="1"), path="/manifests/")
    client.images.pull(f"{proxy.host}/faults:1")
    first, second = proxy.requests_of("GET", "/manifests/")
    assert 1 <= second.time - first.time < RETRY_AFTER_HOURS
    client.registries = replace(QUICK, retry_policy=replace(QUICK.retry_policy, longest_delay=0.5))
    proxy.inject(faults.status(429, Retry_After=str(RETRY_AFTER_HOURS)), path="/manifests/")
    client.images.pull(f"{proxy.host}/faults:1")
    third, fourth = proxy.requests_of("GET", "/manifests/")[2:]
    assert 0.5 <= fourth.time - third.time < RETRY_AFTER_HOURS


def test_a_pull_that_has_failed_waits_for_no_other_layer(client: Engine, proxy: FaultyProxy, pushed: str) -> None:
    client.registries = replace(QUICK, retry_policy=replace(QUICK.retry_policy, longest_delay=RETRY_AFTER_HOURS))
    wrong = iter((faults.corrupted,))  # the first layer that is asked for; all others have to wait

    def some_wait(handler: Handler, answer: Answer) -> None:
        next(wrong, faults.status(429, Retry_After=str(RETRY_AFTER_HOURS)))(handler, answer)

    proxy.inject(_layers_only(some_wait), path="/blobs/", times=100)
    started = time.monotonic()
    with pytest.raises(InvalidArchive):
        client.images.pull(f"{proxy.host}/faults:1")
    assert time.monotonic() - started < RETRY_AFTER_HOURS


def test_three_layers_are_fetched_at_a_time(client: Engine, proxy: FaultyProxy, pushed: str) -> None:
    open_now, most, lock, three = 0, 0, threading.Lock(), threading.Event()

    def slow(handler: Handler, answer: Answer) -> None:
        nonlocal open_now, most
        with lock:
            open_now += 1
            most = max(most, open_now)
            if open_now == 3:
                three.set()
        three.wait(PATIENCE)
        never_within(0.5, lambda: most > 3)  # in which a fourth would arrive
        with lock:
            open_now -= 1
        faults.unchanged(handler, answer)

    proxy.inject(_layers_only(slow), path="/blobs/", times=100)
    assert client.images.pull(f"{proxy.host}/faults:1").id == pushed
    assert most == 3


def test_a_layer_whose_content_is_not_the_configs_is_refused(
    client: Engine, proxy: FaultyProxy, pushed: str, registry: RunningRegistry
) -> None:
    manifest = registry.inspect("faults:1")
    layers = manifest["layers"]
    layers[1], layers[2] = layers[2], layers[1]
    proxy.inject(faults.replaced(go_json(manifest)), path="/manifests/", times=5)
    with pytest.raises(InvalidArchive, match=r"has the diff id .* but the config wants"):
        client.images.pull(f"{proxy.host}/faults:1")
    proxy.inject(faults.replaced(go_json({**manifest, "layers": layers[:2]})), path="/manifests/", times=5)


def test_a_manifest_with_a_layer_too_few_is_refused(
    client: Engine, proxy: FaultyProxy, pushed: str, registry: RunningRegistry
) -> None:
    manifest = registry.inspect("faults:1")
    proxy.inject(faults.replaced(go_json({**manifest, "layers": manifest["layers"][:2]})), path="/manifests/")
    with pytest.raises(InvalidArchive, match="config lists 4 layers, its manifest 2"):
        client.images.pull(f"{proxy.host}/faults:1")


def test_a_manifest_asked_for_by_digest_must_have_it(
    client: Engine, proxy: FaultyProxy, pushed: str, registry: RunningRegistry
) -> None:
    proxy.inject(faults.corrupted, path="/manifests/", times=10)
    with pytest.raises(InvalidArchive, match="manifest verification failed for digest"):
        client.images.pull(f"{proxy.host}/faults@{registry.digest('faults:1')}")


# -- passwords and tokens ----------------------------------------------------------------------


def test_a_redirect_to_another_host_is_followed_without_the_password(
    client: Engine, proxy: FaultyProxy, pushed: str, registry: RunningRegistry
) -> None:
    with FaultyProxy(registry.host) as elsewhere:
        # Another name of the same machine is another host, which must not get the password.
        place = elsewhere.host.replace("127.0.0.1", "localhost")
        proxy.inject(faults.status(401, WWW_Authenticate='Basic realm="x"'), path="/v2/$")
        proxy.inject(faults.redirected(f"http://{place}"), path="/blobs/", times=100)
        auth = {"username": "me", "password": "secret"}
        assert client.images.pull(f"{proxy.host}/faults:1", auth_config=auth).id == pushed
        assert all("authorization" in request.headers for request in proxy.requests_of("GET", "/blobs/"))
        assert elsewhere.requests_of("GET", "/blobs/")
        assert not [request for request in elsewhere.requests if "authorization" in request.headers]


class Tokens:
    """A server of tokens and a registry that wants them, played by one proxy."""

    def __init__(self, proxy: FaultyProxy) -> None:
        self.proxy = proxy
        self.given = 0
        self.lasts = 300
        self.realm = f"http://{proxy.host}/token"
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH"):
            proxy.inject(self.guard, method=method, path="^/v2/", times=10_000)
        proxy.inject(self.give, path="^/token", times=10_000)

    def give(self, handler: Handler, answer: Answer) -> None:
        self.given += 1
        token = {"token": f"token-{self.given}", "expires_in": self.lasts}
        faults.unchanged(handler, Answer(200, {"Content-Type": "application/json"}, json.dumps(token).encode()))

    def guard(self, handler: Handler, answer: Answer) -> None:
        if handler.headers.get("Authorization", "") == f"Bearer token-{self.given}" and self.given:
            faults.unchanged(handler, answer)
            return
        scope = 'scope="repository:faults:pull"'
        asked = f'Bearer realm="{self.realm}",service="lab",{scope}'
        faults.unchanged(handler, Answer(401, {"WWW-Authenticate": asked}, b""))


def test_a_token_is_fetched_once_for_what_is_asked(client: Engine, proxy: FaultyProxy, pushed: str) -> None:
    tokens = Tokens(proxy)
    auth = {"username": "me", "password": "secret"}
    assert client.images.pull(f"{proxy.host}/faults:1", auth_config=auth).id == pushed
    (asked,) = proxy.requests_of("GET", "^/token")
    assert asked.path == "/token?service=lab&scope=repository%3Afaults%3Apull&account=me"
    assert asked.headers["authorization"] == "Basic " + base64.b64encode(b"me:secret").decode()
    assert tokens.given == 1


def test_a_token_that_has_ended_is_replaced(client: Engine, proxy: FaultyProxy, pushed: str) -> None:
    tokens = Tokens(proxy)

    def forget(handler: Handler, answer: Answer) -> None:
        tokens.given += 1  # revokes the last token
        tokens.guard(handler, answer)

    proxy._injected.insert(0, proxy._injected.pop())  # the token's server first
    proxy.inject(forget, path="/blobs/")
    proxy._injected.insert(0, proxy._injected.pop())
    assert client.images.pull(f"{proxy.host}/faults:1").id == pushed
    assert len(proxy.requests_of("GET", "^/token")) >= 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            faults.status(401, b'{"details":"incorrect username or password"}'),
            "^unauthorized: incorrect username or password",
        ),
        (faults.status(401, b'{"error":"unauthorized"}'), "^unauthorized: authentication required"),
        (faults.status(401, b'{"errors":[{"Code":"UNAUTHORIZED","message":"no"}]}'), "^unauthorized: no\n"),
        (faults.status(403, b"no way"), 'error parsing HTTP 403 response body: "no way"'),
        (faults.status(200, b"<html>"), "does not answer with JSON"),
        (faults.status(200, b"[]"), "did not include a token"),
        (faults.status(200, b'{"token":"two\\nlines"}'), "did not include a token"),
    ],
)
def test_a_server_of_tokens_that_gives_none_is_told(
    client: Engine, proxy: FaultyProxy, pushed: str, answer: Fault, words: str
) -> None:
    proxy.inject(answer, path="^/token", times=100)
    Tokens(proxy)
    with pytest.raises(RegistryFailed, match=words):
        client.images.pull(f"{proxy.host}/faults:1")


def test_a_password_is_not_sent_to_a_server_of_tokens_in_the_clear(
    client: Engine, proxy: FaultyProxy, pushed: str
) -> None:
    tokens = Tokens(proxy)
    tokens.realm = "ftp://127.0.0.1/token"
    with pytest.raises(RegistryFailed, match="which is not an https address"):
        client.images.pull(f"{proxy.host}/faults:1", auth_config={"username": "me", "password": "secret"})


# -- push --------------------------------------------------------------------------------------


def test_a_push_that_breaks_off_begins_again_or_says_why(
    engine: Engine, image: Image, proxy: FaultyProxy, registry: RunningRegistry
) -> None:
    engine.registries = QUICK
    name = f"{proxy.host}/push-faults:1"
    image.tag(name)
    proxy.inject(faults.status(503), method="POST", path="/uploads/", times=2)
    proxy.inject(faults.status(500), method="PUT", path="/manifests/")
    (result,) = engine.images.push(name)
    assert registry.digest("push-faults:1") == result.digest
    image.tag(f"{proxy.host}/refused:1")
    denied = b'{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}'
    proxy.inject(faults.status(403, denied), method="POST", times=100)
    with pytest.raises(Unauthorized, match="denied: requested access to the resource is denied"):
        engine.images.push(f"{proxy.host}/refused:1")
    assert engine.fsck(deep=True) == []


def test_an_upload_that_is_reset_is_sent_again(
    engine: Engine, image: Image, proxy: FaultyProxy, registry: RunningRegistry
) -> None:
    engine.registries = QUICK
    name = f"{proxy.host}/reset-upload:1"
    image.tag(name)
    proxy.inject(faults.reset(0), method="PATCH")
    (result,) = engine.images.push(name)
    assert registry.digest("reset-upload:1") == result.digest


def test_a_registry_that_does_not_answer_is_reported_without_long_waits(client: Engine) -> None:
    with pytest.raises(ImageNotFound, match="No such image: busibox:1, and it cannot be pulled: Get ") as caught:
        client.images.obtain("busibox:1")
    assert caught.value.hint
    with pytest.raises(Unreachable, match="connection refused"):
        client.images.pull("127.0.0.1:9/busybox:1")
    assert RetryPolicy().connect_timeout < 3


def _layers_only(fault: Fault, *, larger: int = 0) -> Fault:
    """The fault for layers; configs pass. larger: only for answers of more bytes than that."""

    def chosen(handler: Handler, answer: Answer) -> None:
        is_layer = answer.body[:2] == b"\x1f\x8b" or answer.status == 206
        (fault if is_layer and len(answer.body) > larger else faults.unchanged)(handler, answer)

    return chosen


@pytest.mark.parametrize("tag", ["../../x", "", "-x", "a" * 129, "x:y", "x\n"])
def test_a_tag_that_cannot_be_one_is_not_stored(client: Engine, proxy: FaultyProxy, pushed: str, tag: str) -> None:
    listed = go_json({"name": "faults", "tags": ["1", tag]})
    proxy.inject(faults.replaced(listed), path="/tags/list", times=5)
    with pytest.raises(InvalidArchive, match="the registry lists an invalid tag"):
        client.images.pull_all_tags(f"{proxy.host}/faults")
    assert client.images.list(all=True) == []


@pytest.mark.parametrize(
    "config",
    [{"Labels": ["a"]}, {"Env": [1]}, {"Volumes": ["/a"]}, {"Healthcheck": "x"}],
    ids=lambda each: next(iter(each)),
)
def test_a_config_with_other_types_is_refused(
    client: Engine, proxy: FaultyProxy, pushed: str, registry: RunningRegistry, config: dict[str, object]
) -> None:
    manifest = registry.inspect("faults:1")
    raw = go_json(
        {"rootfs": {"type": "layers", "diff_ids": [sha256(b"x")] * len(manifest["layers"])}, "config": config}
    )
    described = {**manifest["config"], "digest": sha256(raw), "size": len(raw)}
    proxy.inject(faults.replaced(go_json({**manifest, "config": described})), path="/manifests/", times=5)
    proxy.inject(faults.status(200, raw), path=f"/blobs/{sha256(raw)}", times=5)
    with pytest.raises(InvalidArchive, match="json: cannot unmarshal"):
        client.images.pull(f"{proxy.host}/faults:1")
    assert client.images.list(all=True) == []
