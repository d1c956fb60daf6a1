"""Raw requests to dockerd and to our daemon: one per line, in the order of a session.

A line is METHOD TARGET, headers in brackets, and a body:

    POST /v1.41/volumes/create [Content-Type: text/plain] {"Name": "x"}

Targets are sent as they stand here. $NAME is the id of that container, image ($busybox is busybox:1) or network
without "sha256:", $NAME12 its first twelve digits. The subjects are those of other projects' tests of this API:
podman's test/apiv2 and moby's integration tests.
"""

from __future__ import annotations

_CREATE = 'POST /v1.41/containers/create {"Image":"busybox:1","Cmd":["true"],"Labels":{"gone":"1"},'

PATHS = """
GET /_ping
HEAD /_ping
GET /v1.41/_ping
HEAD /v1.24/_ping
POST /_ping
DELETE /_ping
GET /version
GET /v1.24/version
GET /nonesuch
POST /nonesuch
GET /v1.41/
GET /
GET /v1.41
GET /v1.41/container/nonesuch/json
GET /v1.41/containers
POST /v1.41/info
GET /v1.41/containers/create
GET /v1.41/info
PUT /v1.41/info
HEAD /v1.41/info
HEAD /v1.41/version
HEAD /v1.41/containers/json
OPTIONS /v1.41/containers/json
OPTIONS /v1.41/nonesuch
GET /v1.41/containers/json/
GET //v1.41/containers/json
GET /v1.41//containers/json?all=1
GET /v1.41/containers//json
GET /v1.41/containers/../containers/json
GET /v1.41/./version
GET /v1.41/images/x/../y/json
GET /v1.99/version
GET /v1.47.1/version
GET /vabc/version
GET /v/version
GET /V1.41/version
GET /v1.22/containers/nosuch/json
GET /v1.23/containers/nosuch/json
"""

IMAGES = """
GET /v1.24/images/json
GET /v1.41/images/json?all=yes
GET /v1.41/images/json?filters={"reference":["nosuch"]}
GET /v1.24/images/json?filter=nosuch
GET /v1.41/images/json?filters=garb1age%7D
GET /v1.41/images/json?filters=%7B%22label%22:%5B%22testl
GET /v1.41/images/json?filters={"nosuch":["a"]}
GET /v1.41/images/json?filters={"dangling":["true"]}
GET /v1.41/images/json?filters={"dangling":["maybe"]}
GET /v1.41/images/json?filters={"dangling":["true","false"]}
GET /v1.41/images/json?filters={"dangling":{"true":true}}
GET /v1.41/images/json?filters={"label":["xyz","abc"]}
GET /v1.41/images/json?filters={"before":["nosuch"]}
GET /v1.41/images/json?filters={"since":["busybox:1"]}
GET /v1.41/images/json?filters=[]
GET /v1.41/images/json?filters=null
GET /v1.41/images/json?filters=
GET /v1.41/images/json?filters={}
GET /v1.41/images/busybox:1/json
GET /v1.41/images/busybox%3A1/json
GET /v1.41/images/docker.io/library/busybox:1/json
GET /v1.41/images/docker.io%2Flibrary%2Fbusybox%3A1/json
GET /v1.41/images/$busybox/json
GET /v1.41/images/$busybox12/json
GET /v1.41/images/$busybox8/json
GET /v1.41/images/sha256:$busybox/json
GET /v1.41/images/sha256:$busybox12/json
GET /v1.41/images/sha256%3A$busybox12/json
GET /v1.41/images/SHA256:$busybox/json
GET /v1.41/images/busybox/json
GET /v1.41/images/BUSYBOX:1/json
GET /v1.41/images/busybox@sha256:$busybox/json
GET /v1.41/images/nonesuch/json
GET /v1.41/images/nonesuch/history
GET /v1.41/images/nonesuch/get
GET /v1.41/images/busybox:1/history
GET /v1.41/images/busybox:1:2/json
GET /v1.41/images/a%20b/json
POST /v1.41/images/nonesuch/tag?repo=myrepo&tag=mytag
POST /v1.41/images/busybox:1/tag
POST /v1.41/images/busybox:1/tag?repo=My&tag=x
POST /v1.41/images/busybox:1/tag?repo=my&tag=.x
POST /v1.41/images/busybox:1/tag?repo=my:a&tag=b
POST /v1.41/images/busybox:1/tag?repo=my&tag=
POST /v1.41/images/busybox:1/tag?repo=sha256:$busybox&tag=b
POST /v1.41/images/busybox:1/tag?repo=sha256&tag=b
POST /v1.41/images/busybox:1/tag?repo=localhost:5000/a/b&tag=c
POST /v1.41/images/busybox:1/tag?repo=my@sha256:$busybox
DELETE /v1.41/images/my:b
DELETE /v1.41/images/my:a
DELETE /v1.41/images/my
DELETE /v1.41/images/localhost:5000/a/b:c
DELETE /v1.41/images/nonesuch?force=1
GET /v1.41/images/get?names=nonesuch
POST /v1.41/images/prune?filters={"label":["tes
POST /v1.41/images/prune?filters={"nosuch":["x"]}
POST /v1.41/images/prune?filters={"dangling":["true"]}
POST /v1.41/images/prune?filters={"until":["xx"]}
POST /v1.41/images/prune?filters={"until":["1","2"]}
POST /v1.41/images/create?fromImage=UPPER
POST /v1.41/images/create?fromImage=a:b:c
POST /v1.41/images/create?fromSrc=-&repo=UP
POST /v1.41/images/create?fromSrc=-&changes=RUN%20x
POST /v1.41/images/create?fromSrc=-&repo=myimage&tag=mytag
DELETE /v1.41/images/myimage:mytag
POST /v1.41/images/load [Content-Type: application/x-tar] nonsense
GET /v1.41/distribution/UPPER/json
GET /v1.41/events?since=0&until=1
GET /v1.41/events?since=x&until=1
GET /v1.41/events?since=5&until=1
GET /v1.41/events?until=1&filters=garbage
GET /v1.41/events?until=1&filters={"nosuch":["a"]}
GET /v1.41/events?until=1&filters={"type":["nosuch"]}
GET /v1.41/system/df
POST /v1.41/auth
POST /v1.41/auth [Content-Type: application/json] x
POST /v1.41/build?buildargs=garbage
POST /v1.41/build?labels=garbage
POST /v1.41/build?t=UPPER
POST /v1.41/build?ulimits=garbage
POST /v1.41/build?shmsize=x
POST /v1.41/build?cachefrom=garbage
POST /v1.41/build?version=9
POST /v1.41/build?isolation=hyperv
POST /v1.41/build/prune
POST /v1.41/build/prune?filters=garbage
POST /v1.41/build/prune?filters={"nosuch":["x"]}
POST /v1.41/build/cancel
GET /v1.41/swarm
POST /v1.41/images/prune
POST /v1.41/volumes/prune
POST /v1.41/networks/prune
GET /v1.41/nodes
GET /v1.41/services/x
GET /v1.41/plugins
GET /v1.41/plugins/x/json
"""

CREATE = f"""
POST /v1.41/containers/create?name=made {{"Image":"busybox:1","Entrypoint":["echo"],"Volumes":{{"/t":{{}}}}}}
POST /v1.41/containers/create?name=made {{"Image":"busybox:1","Cmd":["true"]}}
POST /v1.41/containers/create?name=a {{"Image":"busybox:1","Cmd":["true"]}}
POST /v1.41/containers/create?name=_x {{"Image":"busybox:1","Cmd":["true"]}}
POST /v1.41/containers/create?name=%C3%A4 {{"Image":"busybox:1","Cmd":["true"]}}
POST /v1.41/containers/create?platform=linux/amd64 {{"Image":"busybox:1","Cmd":["true"],"Labels":{{"gone":"1"}}}}
POST /v1.41/containers/create?platform=linux/arm64 {{"Image":"busybox:1","Cmd":["true"],"Labels":{{"gone":"1"}}}}
POST /v1.41/containers/create?platform=a/b/c/d {{"Image":"busybox:1","Cmd":["true"],"Labels":{{"gone":"1"}}}}
POST /v1.41/containers/create {{"Image":"nosuch"}}
POST /v1.41/containers/create {{"Image":"UPPER"}}
POST /v1.41/containers/create {{"Image":5}}
POST /v1.41/containers/create {{"Image":"busybox:1","Cmd":"true","Labels":{{"gone":"1"}}}}
POST /v1.41/containers/create {{"Image":"busybox:1","Env":"A=b"}}
POST /v1.41/containers/create {{"Image":"busybox:1","Env":["=x"],"Cmd":["true"]}}
POST /v1.41/containers/create {{"image":"busybox:1","cmd":["true"],"labels":{{"gone":"1"}}}}
POST /v1.41/containers/create {{"Image":"busybox:1"
POST /v1.41/containers/create garbage
POST /v1.41/containers/create null
POST /v1.41/containers/create "x"
POST /v1.41/containers/create
POST /v1.41/containers/create [X: y] {{"Image":"busybox:1"}}
POST /v1.41/containers/create [Content-Type: text/plain] {{"Image":"busybox:1"}}
POST /v1.41/containers/create [Content-Type: application/x-tar] {{"Image":"busybox:1"}}
POST /v1.41/containers/create [Content-Type: Application/JSON; charset=utf-8] {{"Image":"busybox:1","Cmd":["true"]}}
{_CREATE}"HostConfig":{{"NanoCpus":500000000}}}}
{_CREATE}"HostConfig":{{"PortBindings":{{"8080/tcp":[{{"HostPort":"aa80"}}]}}}}}}
{_CREATE}"HostConfig":{{"PortBindings":{{"80:8080/tcp":[{{"HostPort":"80"}}]}}}}}}
{_CREATE}"HostConfig":{{"RestartPolicy":{{"Name":"something","MaximumRetryCount":0}}}}}}
{_CREATE}"HostConfig":{{"RestartPolicy":{{"Name":"always","MaximumRetryCount":2}}}}}}
{_CREATE}"HostConfig":{{"RestartPolicy":{{"Name":"on-failure","MaximumRetryCount":-2}}}}}}
{_CREATE}"HostConfig":{{"RestartPolicy":{{"Name":"on-failure","MaximumRetryCount":0}}}}}}
{_CREATE}"HostConfig":{{"CpusetCpus":"1-42,,"}}}}
{_CREATE}"HostConfig":{{"CpusetMems":"42-3,1--"}}}}
{_CREATE}"HostConfig":{{"ShmSize":-1}}}}
{_CREATE}"HostConfig":{{"ShmSize":0}}}}
{_CREATE}"HostConfig":{{"MemorySwappiness":101}}}}
{_CREATE}"HostConfig":{{"MemorySwappiness":-1}}}}
{_CREATE}"HostConfig":{{"OomScoreAdj":1001}}}}
{_CREATE}"HostConfig":{{"Memory":524287}}}}
{_CREATE}"HostConfig":{{"Memory":-5}}}}
{_CREATE}"HostConfig":{{"Memory":"5"}}}}
{_CREATE}"HostConfig":{{"Mounts":[{{"Type":"notreal","Source":"a","Target":"/foo"}}]}}}}
{_CREATE}"HostConfig":{{"Mounts":[{{"Type":"bind","Target":"/foo"}}]}}}}
{_CREATE}"HostConfig":{{"Mounts":[{{"Type":"bind","Source":"/notexist","Target":"/foo"}}]}}}}
{_CREATE}"HostConfig":{{"Mounts":[{{"Type":"bind","Source":"/tmp","Target":"/"}}]}}}}
{_CREATE}"HostConfig":{{"Mounts":[{{"Type":"tmpfs","Source":"/tmp","Target":"/foo"}}]}}}}
{_CREATE}"HostConfig":{{"Mounts":[{{"Type":"tmpfs","Target":"/s","TmpfsOptions":{{"SizeBytes":1024,"Mode":493}}}}]}}}}
{_CREATE}"HostConfig":{{"Binds":["/tmp:/a","/tmp:/a"]}}}}
{_CREATE}"Healthcheck":{{"Interval":-10000000}}}}
{_CREATE}"Healthcheck":{{"Test":["CMD","true"],"Interval":500000}}}}
{_CREATE}"Healthcheck":{{"Test":["CMD","true"],"Retries":-1}}}}
{_CREATE}"Healthcheck":{{"Test":["true"]}}}}
{_CREATE}"Healthcheck":{{"Test":["CMD"]}}}}
{_CREATE}"HostConfig":{{"NanoCpus":500000}}}}
{_CREATE}"HostConfig":{{"NanoCpus":-500000}}}}
{_CREATE}"WorkingDir":"rel"}}
{_CREATE}"StopSignal":"SIGNOSUCH"}}
{_CREATE}"StopTimeout":-1}}
{_CREATE}"HostConfig":{{"NetworkMode":"nosuch"}}}}
{_CREATE}"HostConfig":{{"ExtraHosts":["nonsense"]}}}}
{_CREATE}"HostConfig":{{"IpcMode":"none"}}}}
{_CREATE}"HostConfig":{{"VolumesFrom":["nosuch"]}}}}
{_CREATE}"HostConfig":{{"Runtime":"nosuch"}}}}
{_CREATE}"HostConfig":{{"StorageOpt":{{"size":"1g"}}}}}}
{_CREATE}"NetworkingConfig":{{"EndpointsConfig":{{"a":{{}},"b":{{}}}}}}}}
POST /v1.41/containers/prune?filters={{"label":["gone"]}}
GET /v1.41/containers/made/json
DELETE /v1.41/containers/made?v=1&link=0
GET /v1.41/containers/made/json
"""

CONTAINERS = """
POST /v1.41/containers/create?name=busy {"Image":"busybox:1","Cmd":["sh","-c","echo out; exec sleep 1000"]}
POST /v1.41/containers/busy/exec {"Cmd":["true"]}
POST /v1.41/containers/busy/start
POST /v1.41/containers/create?name=/ended {"Image":"busybox:1","Cmd":["sh","-c","echo out; exit 3"]}
POST /v1.41/containers/ended/start {"Binds":["/tmp:/x"]}
POST /v1.41/containers/ended/start {}
POST /v1.41/containers/ended/wait
GET /v1.41/containers/json?all=1
GET /v1.41/containers/json?all=True
GET /v1.41/containers/json?all=yes
GET /v1.41/containers/json?all=0
GET /v1.41/containers/json?all=no
GET /v1.41/containers/json?all=none
GET /v1.41/containers/json?all=
GET /v1.41/containers/json?all
GET /v1.41/containers/json?all=0&all=1
GET /v1.41/containers/json?all=1&all=0
GET /v1.41/containers/json?ALL=1
GET /v1.41/containers/json?limit=0
GET /v1.41/containers/json?limit=2
GET /v1.41/containers/json?limit=-1
GET /v1.41/containers/json?last=1
GET /v1.41/containers/json?limit=abc
GET /v1.41/containers/json?size=1
GET /v1.41/containers/json?filters=garb1age%7D
GET /v1.41/containers/json?filters=%7B%22label%22:%5B%22testl
GET /v1.41/containers/json?filters={"status":["bogus"]}
GET /v1.41/containers/json?filters={"status":["running","exited"]}
GET /v1.41/containers/json?all=1&filters={"id":["$busy","$ended"]}
GET /v1.41/containers/json?all=1&filters={"id":["$busy","$ended"],"status":["running"]}
GET /v1.41/containers/json?filters={"name":["^/busy$"]}
GET /v1.41/containers/json?filters={"name":["^busy$"]}
GET /v1.41/containers/json?filters={"exited":["x"]}
GET /v1.41/containers/json?filters={"health":["bogus"]}
GET /v1.41/containers/json?filters={"network":["bridge"]}
GET /v1.41/containers/json?filters={"is-task":["false"]}
GET /v1.41/containers/json?filters={"isolation":["default"]}
GET /v1.41/containers/json?filters={"ancestor":["busybox:1"]}
GET /v1.41/containers/json?filters={"status":{"running":true}}
GET /v1.41/containers/json?filters={"since":["nosuch"]}
POST /v1.41/containers/prune?filters={"name":["x"]}
POST /v1.41/containers/prune?filters={"until":["x"]}
GET /v1.41/containers/busy/json
GET /v1.41/containers/$busy/json
GET /v1.41/containers/$busy12/json
GET /v1.41/containers/BUSY/json
GET /v1.41/containers/bu/json
GET /v1.41/containers/%20/json
GET /v1.41/containers/busy%00/json
GET /v1.41/containers/busy/nosuch
GET /v1.41/containers/busy
PUT /v1.41/containers/busy
GET /v1.41/containers/busy/json/
HEAD /v1.41/containers/busy/json
GET /v1.41/containers/busy/top?ps_args=--invalid
GET /v1.41/containers/busy/top?ps_args=-o%20pid,comm
GET /v1.41/containers/busy/top?ps_args=-o%20comm
GET /v1.41/containers/busy/top?ps_args=-o%20nonsense
GET /v1.41/containers/busy/top?ps_args=-p%201
GET /v1.41/containers/busy/top?ps_args=-p%20999999
GET /v1.41/containers/busy/top?ps_args=-o%20pid%3D
GET /v1.41/containers/busy/top?ps_args=-o%20ppid,pid
GET /v1.41/containers/busy/top?ps_args=-f
GET /v1.41/containers/busy/top?ps_args=--help
GET /v1.41/containers/busy/top?ps_args=%22
GET /v1.41/containers/busy/changes
GET /v1.41/containers/busy/logs
GET /v1.41/containers/busy/logs?stdout=1&since=x
POST /v1.41/containers/busy/attach?logs=true&stream=false
POST /v1.41/containers/busy/attach
GET /v1.41/containers/busy/attach
POST /v1.41/containers/busy/resize
POST /v1.41/containers/busy/resize?h=10&w=20
POST /v1.41/containers/busy/resize?h=foo&w=bar
POST /v1.41/containers/ended/resize?h=10&w=20
POST /v1.41/containers/busy/rename?name=busy
POST /v1.41/containers/busy/rename?name=
POST /v1.41/containers/busy/rename?name=/busy2
POST /v1.41/containers/busy2/rename?name=busy
POST /v1.41/containers/busy/update {"Memory":1}
POST /v1.41/containers/busy/update {"RestartPolicy":{"Name":"nosuch"}}
POST /v1.41/containers/busy/update {"RestartPolicy":{"Name":"always"}}
POST /v1.41/containers/busy/update {"RestartPolicy":{"Name":"no"}}
POST /v1.41/containers/busy/update {"PidsLimit":-1}
POST /v1.41/containers/busy/update {"CpuShares":"x"}
POST /v1.41/containers/busy/update garbage
POST /v1.41/containers/busy/update
POST /v1.41/containers/busy/pause
POST /v1.41/containers/busy/pause
POST /v1.41/containers/busy/stop?t=0
POST /v1.41/containers/busy/start
POST /v1.41/containers/busy/start
POST /v1.41/containers/busy/unpause
POST /v1.41/containers/busy/start {}
POST /v1.41/containers/busy/exec {"Cmd":["true"]}
POST /v1.41/containers/busy/exec {"Cmd":[]}
POST /v1.41/containers/busy/exec null
POST /v1.41/containers/busy/exec garbage
POST /v1.41/containers/busy/exec {"Cmd":"true"}
POST /v1.41/containers/busy/exec [Content-Type: text/plain] {"Cmd":["true"]}
GET /v1.41/exec/nosuch/json
POST /v1.41/exec/nosuch/start {}
POST /v1.41/exec/nosuch/resize?h=1&w=1
GET /v1.41/exec/nosuch
POST /v1.41/containers/busy/kill?signal=sigusr9
POST /v1.41/containers/busy/kill?signal=sigwinch
POST /v1.41/containers/busy/kill?signal=28
POST /v1.41/containers/busy/stop?t=x
POST /v1.41/containers/busy/stop?t=1.5
POST /v1.41/containers/busy/restart?t=x
POST /v1.41/containers/ended/stop
POST /v1.41/containers/ended/kill
POST /v1.41/containers/ended/pause
POST /v1.41/containers/ended/unpause
POST /v1.41/containers/nosuch/wait?condition=next-exit
POST /v1.41/containers/ended/wait?condition=
POST /v1.29/containers/ended/wait
DELETE /v1.41/containers/busy
DELETE /v1.41/containers/nosuch?force=1
DELETE /v1.41/containers/ended?link=1
GET /v1.41/containers/busy/archive
GET /v1.41/containers/busy/archive?path=/nosuch
HEAD /v1.41/containers/busy/archive?path=/etc/passwd
HEAD /v1.41/containers/busy/archive?path=etc/passwd
HEAD /v1.41/containers/busy/archive?path=../../etc/passwd
HEAD /v1.41/containers/busy/archive?path=/etc/
HEAD /v1.41/containers/busy/archive?path=/bin/sh
HEAD /v1.41/containers/busy/archive
HEAD /v1.41/containers/nosuch/archive?path=/
PUT /v1.41/containers/busy/archive?path=/tmp
PUT /v1.41/containers/busy/archive?path=/tmp [Content-Type: application/x-tar] garbage-that-is-no-tar
PUT /v1.41/containers/busy/archive
PUT /v1.41/containers/busy/archive?path=/nosuch
PUT /v1.41/containers/busy/archive?path=/etc/passwd
POST /v1.41/commit
POST /v1.41/commit?container=nosuch
POST /v1.41/commit?container=ended&repo=raw&tag=v3&comment=abcd&author=eric&changes=CMD%20/bin/bar%0aEXPOSE%209090
GET /v1.41/images/raw:v3/json
POST /v1.41/commit?container=ended&repo=raw&tag=v4&changes=RUN%20x
POST /v1.41/commit?container=ended&repo=BAD
POST /v1.41/commit?container=ended&repo=x&tag=-
POST /v1.41/commit?container=ended&repo=x garbage
DELETE /v1.41/images/raw:v3
DELETE /v1.41/containers/busy?force=true
DELETE /v1.41/containers/ended
"""

NETWORKS_AND_VOLUMES = """
GET /v1.41/networks/non-existing-network
POST /v1.41/networks/create {"Name":"network1"}
POST /v1.41/networks/create {"Name":"net2","IPAM":{"Config":[{"Subnet":"10.10.254.0/24"}]},"Labels":{"abc":"val"}}
POST /v1.41/networks/create {"Name":"bad","IPAM":{"Config":[{"Subnet":"10.10.134.0/65"}]}}
POST /v1.41/networks/create {"Name":"bad","IPAM":{"Config":[{"Subnet":"10.10.135.0/24","Gateway":"10.1.1.1"}]}}
POST /v1.41/networks/create {"Name":""}
POST /v1.41/networks/create {"Name":"host"}
POST /v1.41/networks/create {"Name":"default"}
POST /v1.41/networks/create {"Name":5}
POST /v1.41/networks/create garbage
POST /v1.41/networks/create
POST /v1.41/networks/create [Content-Type: text/plain] {"Name":"tp"}
GET /v1.41/networks
GET /v1.41/networks/
GET /v1.41/networks/network1
GET /v1.41/networks/netw
GET /v1.41/networks/network1?verbose=true
GET /v1.41/networks/network1?scope=swarm
GET /v1.41/networks?filters={"name":["network1","net2"]}
GET /v1.41/networks?filters={"label":["abc"]}
GET /v1.41/networks?filters={"label":{"abc":true}}
GET /v1.41/networks?filters={"dangling":["1"]}
GET /v1.41/networks?filters={"type":["custom"]}
GET /v1.41/networks?filters={"type":["x"]}
GET /v1.41/networks?filters={"scope":["swarm"]}
GET /v1.41/networks?filters={"name":["doesnotexists"]}
GET /v1.41/networks?filters=garb1age%7D
GET /v1.41/networks?filters=%7B%22label%22:%5B%22testl
POST /v1.41/networks/prune?filters=garb1age%7D
POST /v1.41/networks/prune?filters={"until":["x"]}
POST /v1.41/networks/prune?filters={"until":["500000"]}
POST /v1.41/networks/prune?filters={"label":["xyz"]}
POST /v1.41/networks/network1/connect {"Container":"nosuch"}
POST /v1.41/networks/network1/connect {}
POST /v1.41/networks/network1/connect garbage
POST /v1.41/networks/network1/disconnect {"Container":"nosuch"}
POST /v1.41/networks/network1/disconnect {}
DELETE /v1.41/networks/network1
DELETE /v1.41/networks/network1
DELETE /v1.41/networks/net2
DELETE /v1.41/networks/bridge
GET /v1.41/volumes
GET /v1.41/volumes/nosuch
POST /v1.41/volumes/create {"Name":"foo1"}
POST /v1.41/volumes/create {"Name":"foo1","Labels":{"other":"1"}}
POST /v1.41/volumes/create {"Name":"a"}
POST /v1.41/volumes/create {"Name":"a/b"}
POST /v1.41/volumes/create {"Name":".."}
POST /v1.41/volumes/create {"Name":5}
POST /v1.41/volumes/create {"Name":"dd","DriverOpts":{"nosuch":"1"}}
POST /v1.41/volumes/create garbage
POST /v1.41/volumes/create null
POST /v1.41/volumes/create [Content-Type: text/plain] {"Name":"tp"}
POST /v1.41/volumes/create
GET /v1.41/volumes/foo1
GET /v1.41/volumes/fo
GET /v1.41/volumes?filters={"name":["foo"]}
GET /v1.41/volumes?filters={"driver":["local"]}
GET /v1.41/volumes?filters={"driver":["x"]}
GET /v1.41/volumes?filters={"dangling":["x"]}
GET /v1.41/volumes?filters={"nosuch":["x"]}
GET /v1.41/volumes?filters=garb1age%7D
POST /v1.41/volumes/prune?filters=garb1age%7D
POST /v1.41/volumes/prune?filters={"label!":["nosuch"]}
DELETE /v1.41/volumes/nosuch
DELETE /v1.41/volumes/nosuch?force=true
"""

_SMALL = (
    '{"IMAGE":"busybox:1","CMD":["true"],"volumes":{"/v":{}},"env":["A=1"],"hostconfig":{"binds":["/tmp:/x"],'
    '"restartpolicy":{"name":"always"},"portbindings":{"80/tcp":[{"hostport":"0"}]},"capadd":["net_admin"],"init":true,'
    '"consolesize":[1,2],"logconfig":{"type":"none"}},"healthcheck":{"test":["CMD","true"],"interval":2000000000}}'
)
_TWICE = (
    '{"Image":"busybox:1","Labels":{"a":"1"},"labels":{"b":null},"Cmd":["true"],"HostConfig":null,"Env":null,'
    '"Healthcheck":null}'
)
_UNKNOWN = '{"Image":"busybox:1","Cmd":["true"],"Unknown":5,"HostConfig":{"Unknown":{"a":[1]},"CpuCount":2}}'
_GONE = 'POST /v1.41/containers/prune?filters={"label":["gone"]}'

DOCUMENTS = f"""
POST /v1.41/containers/create {{}}
POST /v1.41/containers/create null
POST /v1.41/containers/create {{"Image":""}}
POST /v1.41/containers/create {{"Image":null}}
POST /v1.41/containers/create?name=doc {{"Image":"nosuch","image":"busybox:1","Cmd":["true"]}} trailing
POST /v1.41/containers/create?name=doc {{"Image":"busybox:1","Cmd":["true"]}}{{}}
DELETE /v1.41/containers/doc
POST /v1.41/containers/create?name=doc [Content-Type: application/json;] {{"Image":"busybox:1","Cmd":["true"]}}
POST /v1.41/containers/create?name=doc [Content-Type: application/jsonx] {{"Image":"busybox:1","Cmd":["true"]}}
POST /v1.41/containers/create?name=doc [Content-Type: application/json; charset] {{"Image":"busybox:1"}}
POST /v1.41/containers/create?name=doc [Content-Type: garbage] {{"Image":"busybox:1","Cmd":["true"]}}
DELETE /v1.41/containers/doc
POST /v1.41/containers/create?name=doc {_SMALL}
GET /v1.41/containers/doc/json
DELETE /v1.41/containers/doc?v=1
POST /v1.41/containers/create?name=doc {_TWICE}
GET /v1.41/containers/doc/json
GET /v1.41/containers/json?all=1&filters={{"label":["a=1","b="]}}
DELETE /v1.41/containers/doc
POST /v1.41/containers/create?name=doc {_UNKNOWN}
DELETE /v1.41/containers/doc
POST /v1.41/containers/create {{"Image":"busybox:1","Cmd":["true"],"Env":["A=1",null]}}
POST /v1.41/containers/create {{"Image":"busybox:1","Cmd":["true"],"Env":["=foo"]}}
{_CREATE}"HostConfig":{{"PortBindings":{{"19039;1230":[{{}}]}}}}}}
{_CREATE}"HostConfig":{{"PortBindings":{{"80/tcp":[{{"HostPort":"99999"}}]}}}}}}
POST /v1.41/containers/create {{"Image":"busybox:1","Cmd":["true"],"HostConfig":{{"PidMode":"container:nosuch"}}}}
POST /v1.41/containers/create {{"Image":"busybox:1","HostConfig":{{"CpuQuota":5000,"NanoCpus":100}}}}
POST /v1.41/containers/create {{"Image":"busybox:1","HostConfig":{{"Memory":1.5}}}}
POST /v1.41/containers/create {{"Image":"busybox:1","Healthcheck":{{"Test":"CMD true"}}}}
POST /v1.41/containers/create {{"Image":"busybox:1","Healthcheck":{{"Interval":"5s"}}}}
POST /v1.41/containers/create?name=/ {{"Image":"busybox:1","Cmd":["true"]}}
POST /v1.41/containers/create?Name=x&platform= {{"Image":"busybox:1","Cmd":["true"],"Labels":{{"gone":""}}}}
{_GONE}
POST /v1.41/volumes/create
POST /v1.41/volumes/create {{"Name"
POST /v1.41/volumes/create {{"name":"docs","LABELS":{{"Key":"v"}}}} trailing
GET /v1.41/volumes?filters={{"label":["Key=v"]}}
DELETE /v1.41/volumes/docs
POST /v1.41/networks/create
POST /v1.41/networks/create x
POST /v1.41/networks/create {{"name":"docs","ipam":{{"config":[{{"subnet":"10.10.251.0/24"}}]}},"labels":{{"Key":"v"}}}}
GET /v1.41/networks?filters={{"label":["Key=v"]}}
POST /v1.41/networks/nosuch/connect {{}}
POST /v1.41/networks/nosuch/connect null
POST /v1.41/networks/nosuch/connect {{"Container":"x"}}
POST /v1.41/networks/docs/connect {{"container":"x"}}
POST /v1.41/networks/nosuch/disconnect {{"Container":"x"}}
DELETE /v1.41/networks/docs
POST /v1.41/containers/nosuch/exec
POST /v1.41/containers/nosuch/exec {{}}
POST /v1.41/containers/nosuch/exec {{"Cmd":["x"]}}
POST /v1.41/exec/nosuch/start x
POST /v1.41/exec/nosuch/start
POST /v1.41/exec/nosuch/start null
POST /v1.41/containers/nosuch/update {{}}
POST /v1.41/commit?container=nosuch null
POST /v1.41/images/nosuch/push
POST /v1.41/images/nosuch/push [X-Registry-Auth: e30=]
POST /v1.41/images/UPPER/push [X-Registry-Auth: e30=]
POST /v1.41/images/nosuch/push?tag=. [X-Registry-Auth: e30=]
POST /v1.41/auth []
POST /v1.41/auth {{"username":5}}
POST /v1.41/build?labels=[]
POST /v1.41/build?buildargs={{"a":1}}
POST /v1.41/build?ulimits={{}}
POST /v1.41/build?cachefrom={{}}
"""

QUERIES = """
POST /v1.41/containers/create?name=q1 {"Image":"busybox:1","Cmd":["sh","-c","echo out; echo err >&2; exec sleep 1000"]}
POST /v1.41/containers/q1/start
POST /v1.41/containers/create?name=q2 {"Image":"busybox:1","Cmd":["true"]}
GET /v1.41/containers/json?all=t
GET /v1.41/containers/json?all=F
GET /v1.41/containers/json?all=%20false
GET /v1.41/containers/json?all=00
GET /v1.41/containers/json?%61ll=1
GET /v1.41/containers/json?all=1;x=2
GET /v1.41/containers/json?all=1&x=%zz
GET /v1.41/containers/json?limit=%2B1
GET /v1.41/containers/json?limit=99999999999999999999
GET /v1.41/containers/json?all=1&filters={"status":[]}
GET /v1.41/containers/json?all=1&filters={"status":null}
GET /v1.41/containers/json?all=1&filters={"status":{"running":false}}
GET /v1.41/containers/json?all=1&filters={"isolation":["x"]}
GET /v1.41/containers/json?all=1&filters={}x
GET /v1.41/containers/json?all=1&filters=%20
GET /v1.41/containers/json?filters={"status":["created"]}
GET /v1.41/containers/q1/logs?stdout=1&tail=-1
GET /v1.41/containers/q1/logs?stdout=1&tail=1.5
GET /v1.41/containers/q1/logs?stdout=1&since=1.5&until=9999999999
GET /v1.41/containers/q1/logs?stdout=0&stderr=false
GET /v1.41/containers/q2/logs?stdout=1&follow=1&tail=1
GET /v1.41/containers/q1/stats?one-shot=1
GET /v1.41/containers/q2/stats?stream=0
GET /v1.41/containers/q1/top?ps_args=
POST /v1.41/containers/q1/kill?signal=SIGSIGWINCH
POST /v1.41/containers/q1/kill?signal=RTMIN%2B1x
POST /v1.41/containers/nosuch/kill
POST /v1.41/containers/nosuch/kill?signal=x
POST /v1.41/containers/nosuch/stop?t=x
POST /v1.41/containers/q2/stop?t=-1
POST /v1.41/containers/nosuch/resize?h=x&w=1
POST /v1.41/containers/nosuch/rename
POST /v1.41/containers/q1/rename?name=q2
POST /v1.41/containers/q1/rename?name=
POST /v1.41/containers/nosuch/wait?condition=x
POST /v1.41/containers/q2/wait?condition=bogus
POST /v1.41/containers/nosuch/attach?logs=1
POST /v1.41/containers/nosuch/attach?detachKeys=nosuch
GET /v1.41/containers/q1/attach/ws?logs=1
POST /v1.41/containers/q1/attach?logs=1&stderr=1
POST /v1.41/containers/q1/attach
POST /v1.41/containers/q1/pause
POST /v1.41/containers/q1/attach?logs=1
POST /v1.41/containers/q1/exec {"Cmd":["true"]}
POST /v1.41/containers/q1/restart?t=0
POST /v1.41/containers/q1/pause
POST /v1.41/containers/q1/start
POST /v1.41/containers/q1/unpause
POST /v1.41/containers/q1/update {"Memory":67108864}
POST /v1.41/containers/q1/update {"memory":67108864,"memoryswap":-1,"nosuch":1} trailing
POST /v1.41/containers/q1/update null
POST /v1.23/containers/q2/copy {"Resource":"/bin/sh"}
POST /v1.23/containers/q2/copy {"Resource":"/nosuch"}
POST /v1.23/containers/q2/copy {"Resource":""}
POST /v1.23/containers/nosuch/copy {"Resource":"/x"}
GET /v1.41/containers/q1/checkpoints
POST /v1.41/containers/create?name=q3 {"Image":"busybox:1","Cmd":["true"],"HostConfig":{"ReadonlyRootfs":true}}
PUT /v1.41/containers/q3/archive?path=/
DELETE /v1.41/containers/q3
POST /v1.41/containers/create?name=q3 {"Image":"busybox:1","Cmd":["true"],"HostConfig":{"LogConfig":{"Type":"none"}}}
GET /v1.41/containers/q3/logs?stdout=1
DELETE /v1.41/containers/q3
DELETE /v1.41/containers/
DELETE /v1.41/containers/q1?force=no
DELETE /v1.41/containers/q1?force=1
DELETE /v1.41/containers/q2?v=x
POST /v1.41/images/nosuch/tag?repo=UPPER
POST /v1.41/images/busybox:1/tag?repo=my&tag=a/b
DELETE /v1.41/images/
GET /v1.41/images/search?term=x&limit=101
GET /v1.41/images/search?term=x&filters={"nosuch":["x"]}
POST /v1.41/images/create?fromSrc=http://127.0.0.1:9/x
GET /v1.41/distribution/127.0.0.1:9/x/json
"""

ELSEWHERE = """
POST /v1.41/session
POST /v1.41/build/cancel?id=x
GET /v1.41/swarm/unlockkey
GET /v1.41/swarm/nosuch
POST /v1.41/swarm {}
GET /v1.41/nodes/x
GET /v1.41/nodes/x/y
POST /v1.41/nodes
DELETE /v1.41/nodes/x
POST /v1.41/nodes/x/update?version=1 {}
GET /v1.41/services
POST /v1.41/services/create {}
GET /v1.41/services/x/json
POST /v1.41/services/x
DELETE /v1.41/services/x
GET /v1.41/tasks/x
POST /v1.41/tasks
DELETE /v1.41/tasks/x
GET /v1.41/tasks/x/logs?stdout=1
POST /v1.41/secrets
POST /v1.41/secrets/create {}
DELETE /v1.41/secrets/x
POST /v1.41/configs/x/update?version=1 {}
GET /v1.41/plugins?filters={"enabled":["true"]}
GET /v1.41/plugins?filters={"enabled":["x"]}
GET /v1.41/plugins?filters={"nosuch":["x"]}
GET /v1.41/plugins/a/b/json
GET /v1.41/plugins/x
POST /v1.41/plugins/x/enable?timeout=0
POST /v1.41/plugins/x/nosuch
DELETE /v1.41/plugins/a/b
"""

VERSIONS = """
GET /v0/version
GET /v1/version
GET /v1./version
GET /v.41/version
GET /v..../version
GET /v1.041/version
GET /v01.41/version
GET /v1.24.0/version
GET /v1.41a/version
GET /v1.9/nosuch
GET /v1.99/nosuch
GET /v9/version
GET /v1.99999999999999999999/version
HEAD /v1.22/_ping
GET /v1.24/info
GET /v1.25/info
GET /v1.40/images/json?filter=nosuch
GET /v1.41/images/json?filter=nosuch
POST /v1.39/containers/create?name=shares {"Image":"busybox:1","Cmd":["sleep","100"],"StopSignal":"KILL"}
GET /v1.41/containers/shares/json
POST /v1.40/containers/create?name=another&platform=linux/s390x {"Image":"busybox:1","Cmd":["true"]}
POST /v1.41/containers/create?name=others&platform=linux/s390x {"Image":"busybox:1","Cmd":["true"]}
POST /v1.22/containers/shares/start
GET /v1.22/containers/json
GET /v1.27/networks
GET /v1.28/networks
GET /v1.40/containers/shares/stats?stream=0&one-shot=1
GET /v1.41/containers/shares/stats?stream=0&one-shot=1
POST /v1.23/containers/shares/copy {"Resource":"/etc/passwd"}
POST /v1.23/containers/shares/copy {"Resource":""}
POST /v1.24/containers/shares/copy {"Resource":"/etc/passwd"}
POST /v1.41/containers/shares/stop?signal=USR1
POST /v1.29/containers/shares/wait?condition=nosuch
DELETE /v1.22/containers/shares
DELETE /v1.22/containers/another
"""

_FORM = "[Content-Type: application/x-www-form-urlencoded]"

FORMS = f"""
POST /v1.41/volumes/create {{"Name":"formed"}}
POST /v1.41/volumes/prune {_FORM} filters=%7B%22label%22%3A%5B%22nosuch%22%5D%7D
GET /v1.41/volumes/formed
POST /v1.41/volumes/prune {_FORM} filters={{"name":["x"]}}
POST /v1.41/volumes/prune?filters={{"label":["nosuch"]}} {_FORM} filters={{"name":["x"]}}
POST /v1.41/volumes/prune?filters={{"name":["x"]}} {_FORM} filters={{"label":["nosuch"]}}
POST /v1.41/volumes/prune [Content-Type: text/plain] filters={{"name":["x"]}}
POST /v1.41/containers/create?name=formed {{"Image":"busybox:1","Cmd":["true"]}}
POST /v1.41/containers/formed/rename {_FORM} name=formed2
POST /v1.41/containers/formed2/kill {_FORM} signal=NOSUCH
POST /v1.41/containers/formed2/start {_FORM} {{}}
POST /v1.41/containers/formed2/wait {_FORM} condition=next-exi
DELETE /v1.41/containers/formed2 {_FORM} force=maybe
POST /v1.41/containers/create {_FORM} {{"Image":"busybox:1","Cmd":["true"]}}
POST /v1.41/networks/prune {_FORM} filters={{"nosuch":["x"]}}
POST /v1.41/images/busybox:1/tag {_FORM} repo=formed&tag=1
DELETE /v1.41/images/formed:1
GET /v1.41/networks?filters={{"dangling":["true","0"]}}
"""

SESSIONS = {
    "forms": FORMS,
    "paths": PATHS,
    "versions": VERSIONS,
    "images": IMAGES,
    "create": CREATE,
    "containers": CONTAINERS,
    "networks and volumes": NETWORKS_AND_VOLUMES,
    "documents": DOCUMENTS,
    "queries": QUERIES,
    "elsewhere": ELSEWHERE,
}

WORDED = (DOCUMENTS, QUERIES, ELSEWHERE, FORMS)
"""Sessions in which errors have dockerd's words, too."""

DIFFERENT = {
    'GET /v1.41/containers/json?filters={"since":["nosuch"]}': 404,  # the container is not there
    "POST /v1.41/containers/busy/unpause": 409,  # as where a paused one is paused again
    "POST /v1.41/containers/ended/unpause": 409,
    "DELETE /v1.41/containers/ended?link=1": 409,
    "GET /v1.41/containers/../containers/json": 404,  # dockerd sends the client to the path without the dots
    "GET /v1.41/images/x/../y/json": 400,
    "GET /v1.41/volumes?filters=garb1age%7D": 500,  # until 1.41, as dockerd does with all other filters
}
"""Statuses of ours where dockerd says another one: mostly 500, as if a mistake of the client were its own."""

WORDS = (
    "POST /v1.41/images/create?fromSrc=http://127.0.0.1:9/x",
    "GET /v1.41/distribution/127.0.0.1:9/x/json",
)
"""Rows whose words are our own: Go's of the network have more in them."""
