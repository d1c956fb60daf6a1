"""Go templates: what docker's command line (28.2) printed for the same document, as data."""

from __future__ import annotations

from typing import Any

import pytest

from pylab_container.docker.template import Template, TemplateError, render
from pylab_container.docker.template_values import Row

DOCUMENT: dict[str, Any] = {
    "Id": "ce830bccae0c962327ea68f64016d8eb35df766d15e3d97b35af4837e66bf6d5",
    "Args": ["10000"],
    "State": {"Status": "running", "Running": True, "Paused": False, "ExitCode": 0},
    "Name": "/web",
    "HostConfig": {
        "Binds": ["/tmp:/t", "vol:/v"],
        "LogConfig": {"Type": "json-file", "Config": {}},
        "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "CapAdd": None,
        "PidsLimit": None,
        "Memory": 0,
    },
    "Mounts": [{"Type": "bind", "Source": "/tmp"}, {"Type": "volume", "Source": "/var"}],
    "Config": {
        "ExposedPorts": {"22/tcp": {}, "80/tcp": {}},
        "Env": ["A=1"],
        "Cmd": ["sleep", "10000"],
        "Entrypoint": None,
        "Labels": {"a": "b", "c": "d"},
        "Volumes": None,
    },
    "NetworkSettings": {
        "Ports": {"22/tcp": None, "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]},
        "Networks": {"bridge": {"Gateway": "172.31.98.1"}},
    },
}

# template → what docker inspect -f printed
PRINTED = [
    ("{{.State.Status}}", "running"),
    ("{{$.Name}}", "/web"),
    ("{{.Config.Labels.a}}", "b"),
    ("{{.Config.Labels.zz}}", "<no value>"),
    ('{{index .Config.Labels "a"}}', "b"),
    ('{{index .Config.Labels "zz"}}|', "|"),
    ("{{json .Config.Labels}}", '{"a":"b","c":"d"}'),
    ("{{.Config.Labels | json}}", '{"a":"b","c":"d"}'),
    ("{{.Config.Labels}}", "map[a:b c:d]"),
    ("{{.Config.Env}}", "[A=1]"),
    ('{{join .Config.Cmd ","}}', "sleep,10000"),
    ("{{range .Config.Env}}<{{.}}>{{else}}none{{end}}", "<A=1>"),
    ("{{range .HostConfig.CapAdd}}<{{.}}>{{else}}none{{end}}", "none"),
    ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}} {{end}}", "a=b c=d "),
    ("{{range $i, $e := .Config.Cmd}}{{if $i}},{{end}}{{$e}}{{end}}", "sleep,10000"),
    (
        "{{range $p, $c := .NetworkSettings.Ports}}{{$p}}>{{with $c}}{{(index . 0).HostPort}}{{end}} {{end}}",
        "22/tcp> 80/tcp>8080 ",
    ),
    ("{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}", "172.31.98.1"),
    ("{{range .Mounts}}{{.Type}} {{.Source}};{{end}}", "bind /tmp;volume /var;"),
    ("{{range .Args}}{{$.Name}}{{end}}", "/web"),
    ("{{.HostConfig.Memory}} {{.State.Running}}", "0 true"),
    ("{{println .Name}}", "/web\n"),
    ('{{printf "%s:%d" .Name 3}}', "/web:3"),
    ('{{printf "%-10s|%5d|%v" .Name 3 .Args}}', "/web      |    3|[10000]"),
    ('{{.Name | printf "%q"}}', '"/web"'),
    ('{{upper .Name}} {{title "ab cd"}} {{lower "AB"}} {{split "a,b" ","}}', "/WEB Ab Cd ab [a b]"),
    ('{{pad "x" 1 2}}| {{truncate "abcdef" 3}}', " x  | abc"),
    ("{{if .State.Running}}yes{{else if .State.Paused}}p{{else}}no{{end}}", "yes"),
    ("{{if .State.Paused}}p{{else if .State.Running}}yes{{else}}no{{end}}", "yes"),
    ("{{if .State.Paused}}p{{else}}no{{end}}", "no"),
    ("{{if and .State.Running (not .State.Paused)}}ok{{end}}", "ok"),
    ("{{or .HostConfig.CapAdd .Args}}", "[10000]"),
    ("{{with .State.Status}}[{{.}}]{{end}}", "[running]"),
    ('{{- .Name -}}  x {{- " y" }}', "/webx y"),
    ("{{len .Config.Env}} {{slice .Name 1}}", "1 web"),
    ('{{eq .State.Status "running"}} {{gt 2 1}} {{ne "a" "b"}} {{le 1 1}}', "true true true true"),
    ("{{json .State.Health}} {{.State.Health}}", "null <nil>"),
    ("{{.HostConfig.PidsLimit}} {{.HostConfig.Binds}} {{.Config.Entrypoint}}", "<nil> [/tmp:/t vol:/v] []"),
    ("{{.NetworkSettings.Ports}}", "map[22/tcp:[] 80/tcp:[{0.0.0.0 8080}]]"),
    ("{{.HostConfig.RestartPolicy}} {{.Config.ExposedPorts}}", "{no 0} map[22/tcp:{} 80/tcp:{}]"),
    ('{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "8080"),
    ('{{index .HostConfig.PortBindings "80/tcp" 0 "HostPort"}}', "8080"),
    ('{{"abc"}} {{`raw`}} {{1}} {{true}} {{"}}"}}', "abc raw 1 true }}"),
    ('{{print 1 2 "a" "b" 3}}', "1 2ab3"),
    ("{{/* a comment */}}{{$x := .Name}}{{$x}}", "/web"),
    (r"a\tb\n", r"a\tb\n"),
    ("{{if or (not .State.Running) .State.Paused}}a{{else}}b{{end}}", "b"),
    ("{{if and .State.Paused .Nope.Nope}}a{{else}}b{{end}}", "b"),
    ("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}", "none"),
    ("{{$x := 0}}{{range .Config.Env}}{{$x = len .}}{{end}}{{$x}}", "3"),
    ("{{range .Config.Cmd}}{{.}}{{break}}{{end}}", "sleep"),
    ('{{range .Config.Cmd}}{{if eq . "sleep"}}{{continue}}{{end}}{{.}}{{end}}', "10000"),
    ("{{1.5}} {{0x10}} {{'a'}} {{-3}}", "1.5 16 97 -3"),
    ('{{printf "%05d|%x|%.2f|%T" 42 255 3.14159 "a"}}', "00042|ff|3.14|string"),
    ('{{printf "%d %s" "hi"}}', "%!d(string=hi) %!s(MISSING)"),
    ("{{println .Config.Labels}}", "map[a:b c:d]\n"),
    ("{{.Id | len}} {{.State}}", "64 map[ExitCode:0 Paused:false Running:true Status:running]"),
    ("{{range .Mounts}}[{{.Name}}]{{end}}", "[][]"),
    ("{{.Config.Volumes}} {{.NetworkSettings.Networks.nope.Gateway}}", "map[] <no value>"),
    ("", ""),
]

# template → (docker's words, exit status)
REFUSED = [
    ("{{.Nope}}", 'template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope"', 125),
    (
        "{{index .Args 5}}",
        'template: :1:2: executing "" at <index .Args 5>: error calling index: index out of range: 5',
        125,
    ),
    ("{{nil}}", "nil is not a command", 125),
    ("{{.State.Status.Foo}}", "can't evaluate field Foo", 125),
    ("{{range $p, $c := .NetworkSettings.Ports}}{{index $c 0}}{{end}}", "index of untyped nil", 125),
    ('{{join .Name ","}}', "join", 125),
    ("{{.Name .Args}}", "can't give argument to non-function", 125),
    ("{{upper 3}}", "the function cannot be given int", 125),
    ("{{range .Name}}{{end}}", "range can't iterate over /web", 125),
    ("{{$nope}}", 'undefined variable "$nope"', 64),
    ("{{foo .Args}}", 'template: :1: function "foo" not defined', 64),
    ("line\n{{.Args", "template: :2: unclosed action", 64),
    ("{{range .Args}}x", "template: :1: unexpected EOF", 64),
    ("{{end}}", "template: :1: unexpected {{end}}", 64),
    ("{{else}}", "template: :1: unexpected {{else}}", 64),
    ("{{if}}x{{end}}", "template: :1: missing value", 64),
    ("{{(.Name}}", "unclosed left paren", 64),
    ("{{.Name)}}", "unexpected right paren", 64),
    ("{{.A ! .B}}", "unexpected '!'", 64),
    ("{{.}", "unclosed action", 64),
    ('{{template "x"}}', "template is not supported here", 64),
    ('{{define "x"}}{{end}}', "define is not supported here", 64),
]


@pytest.mark.parametrize(("template", "printed"), PRINTED)
def test_a_template_prints_what_docker_prints(template: str, printed: str) -> None:
    assert render(template, DOCUMENT) == printed


@pytest.mark.parametrize(("template", "message", "status"), REFUSED)
def test_a_template_that_does_not_fit_is_refused_with_its_place(template: str, message: str, status: int) -> None:
    with pytest.raises(TemplateError) as caught:
        render(template, DOCUMENT)
    assert message in caught.value.message
    assert caught.value.exit_code == status


def test_a_row_has_columns_methods_and_a_whole() -> None:
    row = Row({"Names": "web", "Size": lambda: "0B"}, {"Label": {"a": "b"}.get})  # type: ignore[dict-item]
    assert render('{{.Names}} {{.Size}} {{.Label "a"}} {{upper (.Label "a")}}', row) == "web 0B b B"
    assert render("{{json .}}", row) == '{"Names":"web","Size":"0B"}'
    with pytest.raises(TemplateError, match="can't evaluate field Nope"):
        render("{{.Nope}}", row)


def test_a_column_that_is_not_named_is_not_computed() -> None:
    row = Row({"Names": "web", "Size": lambda: pytest.fail("computed")})
    assert render("{{.Names}}", row) == "web"


def test_json_escapes_what_html_would_read_in_a_whole_row_only() -> None:
    assert render("{{json .A}}", {"A": "<&>"}) == '"<&>"'
    assert render("{{json .}} {{json .A}}", Row({"A": "<&>"})) == '{"A":"\\u003c\\u0026\\u003e"} "<&>"'


def test_a_template_is_read_once_and_filled_in_often() -> None:
    template = Template("{{.A}};")
    assert [template.render({"A": number}) for number in (1, 2)] == ["1;", "2;"]


@pytest.mark.parametrize(
    "text", ["{{if 1}}" * 5000 + "{{end}}" * 5000, "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}", "{{len " * 5000]
)
def test_deep_nesting_is_refused(text: str) -> None:
    with pytest.raises(TemplateError):
        render(text, {})


def test_a_deep_document_is_refused() -> None:
    document: dict[str, object] = {}
    for _ in range(5000):
        document = {"a": document}
    with pytest.raises(TemplateError, match="nested too deeply"):
        render("{{.}}", document)
