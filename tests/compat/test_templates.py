"""--format: labctr prints the same as the docker command prints through `labctr daemon`.

Left out is what differs for a reason: addresses of pointers, structs printed as a whole (their fields are those of the
API's version), {{define}}, {{template}}, {{block}} and {{call}}, which we refuse, and the old word "raw". How
old something new is is masked: the two commands do not run in the same second.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pylab_container import Engine
from tests.support.api import Daemon
from tests.support.commands import Labctr
from tests.support.dockerd import client_version

Completed = subprocess.CompletedProcess[str]

CONTAINER = r"""
{{.Id}}
{{json .State.Status}}
{{.State.Health.Status}}
{{json .State.Health}}
{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}
{{.State.Pid}} {{.State.ExitCode}} {{.State.OOMKilled}}
{{json .Config.Env}}
{{.Mounts}}
{{json .Mounts}}
{{range .Mounts}}{{.Name}}|{{.Source}}|{{.RW}}|{{.Mode}}|{{.Propagation}};{{end}}
{{.HostConfig.Binds}} {{.HostConfig.CapAdd}} {{.HostConfig.Tmpfs}}
{{.HostConfig.Ulimits}} {{json .HostConfig.Ulimits}}
{{.HostConfig.RestartPolicy.Name}}:{{.HostConfig.RestartPolicy.MaximumRetryCount}}
{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}}
{{.HostConfig.LogConfig}} {{.HostConfig.LogConfig.Config}}
{{.HostConfig.OomKillDisable}} {{.HostConfig.PidsLimit}} {{.HostConfig.Init}} {{.HostConfig.MemorySwappiness}}
{{.HostConfig.Devices}} {{.HostConfig.Dns}} {{.HostConfig.ExtraHosts}} {{.ExecIDs}}
{{.HostConfig.Devices}} {{.HostConfig.ExtraHosts}} {{.ExecIDs}}
{{.HostConfig.PortBindings}}
{{.Config.Healthcheck}} {{.Config.Healthcheck.Test}} {{.Config.Healthcheck.Interval}}
{{.Config.ExposedPorts}} {{.NetworkSettings.Ports}}
{{.Config.Entrypoint}} {{.Config.OnBuild}} {{.Config.Volumes}} {{.Config.StopTimeout}}
{{.Platform}} {{.Driver}} {{.MountLabel}}| {{.ProcessLabel}}| {{.AppArmorProfile}}|
{{range $p, $b := .NetworkSettings.Ports}}{{$p}}={{range $b}}{{.HostIp}}:{{.HostPort}}{{end}} {{end}}
{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}
{{index .NetworkSettings.Ports "80/tcp" 0}}
{{with index .NetworkSettings.Ports "443/tcp"}}{{.}}{{else}}no{{end}}
{{.NetworkSettings.Networks.lab.IPAddress}} {{(index .NetworkSettings.Networks "lab").Gateway}}
{{range $k, $v := .NetworkSettings.Networks}}{{$k}} {{$v.IPAddress}} {{$v.MacAddress}}{{end}}
{{.NetworkSettings.Networks.nope.IPAddress}}
{{.Config.Labels}} {{println .Config.Labels}} {{printf "%v" .Config.Labels}}
{{.Config.Labels.a}}|{{.Config.Labels.nope}}|{{index .Config.Labels "com.x.y"}}|{{index .Config.Labels "nope"}}|
{{with index .Config.Labels "nope"}}has{{else}}no{{end}}
{{json .Config.Labels}}
{{len .Config.Labels}} {{len .Mounts}} {{len .Name}}
{{slice .Created 0 10}} {{slice .Id 0 12}}
{{.Name | upper | printf "%s!"}} {{title "hello world"}} {{lower "ABC"}}
{{split .Name "/"}} {{join .Config.Env ";"}} {{join .Args " "}} {{.Path}}
{{range $i, $a := .Args}}{{if $i}}, {{end}}{{$a}}{{end}}
{{range .Args}}{{.}}{{break}}{{end}}
{{range .Config.Env}}{{if eq . "A=1"}}{{continue}}{{end}}{{.}};{{end}}
{{$n := .Name}}{{$n = "x"}}{{$n}}
{{$x := 0}}{{range .Config.Env}}{{$x = len .}}{{end}}{{$x}}
{{if true}}{{$y := 1}}{{$y}}{{end}}{{$y}}
{{if and .State.Running (eq .State.ExitCode 0)}}ok{{end}}
{{if or (not .State.Running) .State.Paused}}a{{else}}b{{end}}
{{if and .State.Dead .State.Nope.Nope}}a{{else}}b{{end}}
{{eq .State.Status "exited" "running"}} {{lt 1 2}} {{ge 2 2}} {{gt "b" "a"}} {{ne 1 2}}
{{eq 1 1.0}}
{{1.5}} {{0x10}} {{'a'}} {{1e3}} {{-3}} {{true}} {{not false}}
{{html "<a>&'"}} {{js "it's"}} {{urlquery "a b&c"}}
{{printf "%s %v %d" .Name .State.Running .State.ExitCode}}
{{printf "%05d|%-6s|%6s|%x|%t" 42 "ab" "cd" 255 true}}
{{printf "%.2f" 3.14159}} {{printf "%q" .Config.Cmd}} {{printf "%T" .Name}}
{{printf "%d %s" "hi"}} {{printf "%s" "a" "b"}} {{printf "100%%"}}
{{pad "a" 2 3}}| {{truncate "abc" 10}}| {{len ""}} {{print 1 2 "a"}} {{println "x"}}
{{json 1.0}} {{json "a<b"}} {{json true}}
{{- .Name -}}  x {{/* c */}}y {{- " z" }}
{{.Name | }}
{{.SizeRw}} {{.SizeRootFs}}
{{.Config.Image}} {{.Image}}
{{.nope}}
{{.Nope}}
{{.State.Nope}}
{{index .Args 7}}
{{index .Config.Labels 3}}
{{index nil 1}}
{{nil | json}}
{{len 3}}
{{eq .Args .Args}}
{{lt "a" 1}}
{{if}}x{{end}}
{{range .Args}}
{{end}}
{{.Name
{{.Name}} {{else}}
{{foo}}
{{"unterminated}}
{{$x}}
"""

OTHERS = [
    ("busybox:1", "{{.RepoTags}} {{.RepoDigests}} {{.Config.Env}} {{.Config.Cmd}}"),
    ("busybox:1", "{{.RootFS.Type}} {{len .RootFS.Layers}} {{.Size}} {{.Os}}/{{.Architecture}} {{.Id}}"),
    ("busybox:1", "{{.GraphDriver}} {{.Comment}}|{{.Author}}|{{.Parent}}|"),
    ("vol", "{{.Labels}} {{.Options}} {{.Status}} {{.Scope}} {{.Driver}} {{.Mountpoint}} {{.UsageData}}"),
    ("lab", "{{.IPAM}} {{.IPAM.Config}} {{(index .IPAM.Config 0).Subnet}}"),
    ("lab", "{{range .IPAM.Config}}{{.Subnet}} {{.Gateway}}{{end}} {{.Labels}} {{.Internal}} {{.EnableIPv6}}"),
    ("lab", "{{range $i, $c := .Containers}}{{$c.Name}} {{$c.IPv4Address}}{{end}} {{len .Containers}}"),
    ("done", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}| {{.State.Health}} {{.State}}"),
    ("done", "{{.State.Health.Status}}"),
]

LISTINGS = [
    *(
        (("ps", "-a"), template)
        for template in (
            "{{.ID}} {{.Names}} {{.Image}} {{.Command}} {{.State}} {{.CreatedAt}}",
            r"table {{.Names}}\t{{.Ports}}\t{{.State}}\t{{.Mounts}}",
            '{{.Labels}} {{.Label "a"}}|{{.Label "zz"}}|{{json .Labels}}',
            "{{.Mounts}} {{.Networks}} {{.LocalVolumes}} {{.Size}}",
            "table {{json .Names}}",
            "table {{.Names}} | {{upper .State}}",
            'table {{.Names}}\t{{.Label "a"}}',
            '{{truncate .ID 5}} {{join (split .Names "e") "-"}}',
            '{{if eq .State "running"}}{{.Names}}{{end}}',
        )
    ),
    (("ps", "-a", "--no-trunc"), "{{.ID}} {{.Command}} {{.Mounts}}"),
    (("images",), "{{.Repository}}:{{.Tag}} {{.ID}} {{.Size}} {{.VirtualSize}} {{.Digest}} {{.CreatedAt}}"),
    (("images",), r"table {{.Repository}}\t{{.Tag}}\t{{.Size}}"),
    (("history", "busybox:1"), "{{json .}}"),
    (("history", "busybox:1"), r"table {{.ID}}\t{{.Comment}}\t{{.Size}}\t{{.CreatedAt}}"),
    (("history", "busybox:1", "--human=false"), "table"),
    (("volume", "ls"), '{{json .}} {{.Label "a"}}'),
    (("network", "ls"), "{{.Name}} {{.Driver}} {{.Scope}} {{.ID}} {{.Labels}} {{.CreatedAt}}"),
]


@pytest.fixture(scope="module")
def daemon(daemon_of_module: tuple[Engine, Daemon]) -> Daemon:
    return daemon_of_module[1]


@pytest.fixture(scope="module")
def engine(daemon_of_module: tuple[Engine, Daemon]) -> Engine:
    return daemon_of_module[0]


@pytest.fixture(scope="module")
def things(engine: Engine, busybox_tar: Path) -> None:
    """A container that runs, with a bit of everything, and one that has exited."""
    image = engine.images.import_(busybox_tar, "busybox:1")
    engine.volumes.create("vol", labels={"a": "b"})
    engine.networks.create("lab", labels={"n": "m"})
    engine.containers.run_detached(
        image,
        ["sleep", "10000"],
        name="web",
        network="lab",
        ports={"80/tcp": ("127.0.0.1", None)},
        volumes=["vol:/v", "/tmp:/t:ro"],
        labels={"a": "b", "com.x.y": "1", "h": "<x>&"},
        mem_limit="64m",
        nano_cpus=500_000_000,
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
        environment={"A": "1", "E": "x y <z>"},
        healthcheck={"test": ["CMD-SHELL", "true"], "interval": 3600 * 10**9},
        cap_add=["NET_ADMIN"],
        tmpfs={"/tm": ""},
        ulimits=[{"Name": "nofile", "Soft": 1000, "Hard": 2000}],
    )
    ended = engine.containers.run_detached(image, ["sh", "-c", "exit 3"], name="done", network_mode="none")
    ended.wait()


def masked(text: str) -> str:
    """A text without the age of what is new, and with the labels of "web" in one order.

    tests/unit/test_timestamps.py has all the words for ages. docker 26 joins labels in the order of a Go map, which
    is another one at each call.
    """
    text = re.sub(r"(Less than a second|\d+ seconds?|About a minute|\d+ minutes) ago", "AGE", text)
    label = r"(?:a=b|com\.x\.y=1|h=<x>&)"
    return re.sub(rf"{label}(?:,{label})+", lambda found: ",".join(sorted(found[0].split(","))), text)


def as_the_client_knows_it(printed: str) -> str:
    """Return labctr's output without fields that the installed version of the docker command does not have."""
    if client_version() < (25,):  # health checks have had a StartInterval since
        printed = re.sub(r"(\[CMD-SHELL true\] 1h0m0s 0s 0s) 0s", r"\1", printed)
    if client_version() < (23,):  # and so have volumes what those of a swarm need
        printed = re.sub(r'"(Availability|Group)":"N/A",|,"Status":"N/A"', "", printed)
    return printed


def differences(daemon: Daemon, cli: Labctr, commands: Sequence[tuple[str, ...]]) -> list[str]:
    """The commands for which docker and we differ: in what is printed, in the status, or in what is wrong."""

    def run_docker(command: tuple[str, ...]) -> Completed:
        return daemon.docker(*command, check=False)

    def compare(command: tuple[str, ...], theirs: Completed) -> str:
        ours = cli(*command, check=False)
        told = theirs.stderr.strip().removeprefix("Error: ").splitlines()[:1] if theirs.returncode else []
        expected, printed = (
            "" if theirs.returncode else masked(theirs.stdout),
            masked(as_the_client_knows_it(ours.stdout)),
        )
        if (theirs.returncode, expected) == (ours.returncode, printed) and all(line in ours.stderr for line in told):
            return ""
        return f"{command}\n  docker {theirs.returncode} {expected!r} {told}\n  labctr {ours.returncode} {printed!r}"

    with ThreadPoolExecutor(2) as threads:
        return [found for found in map(compare, commands, threads.map(run_docker, commands)) if found]


def test_inspect_fills_in_templates_as_docker_does(daemon: Daemon, cli: Labctr, things: None) -> None:
    templates = CONTAINER.strip("\n").split("\n")
    assert len(templates) > 70
    commands: list[tuple[str, ...]] = [("inspect", "-f", template, "web") for template in templates]
    commands += [("inspect", "-f", template, name) for name, template in OTHERS]
    found = differences(daemon, cli, commands)
    assert not found, "\n".join(found)


def test_listings_fill_in_templates_as_docker_does(daemon: Daemon, cli: Labctr, things: None) -> None:
    commands = [(*command, "--format", template) for command, template in LISTINGS]
    found = differences(daemon, cli, commands)
    assert not found, "\n".join(found)
