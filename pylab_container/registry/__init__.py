"""The distribution protocol: how a registry is asked for images, and given some.

    settings.py     which registries, by which way: mirrors, plain http, patience
    connections.py  connections that are kept, and which certificates are good
    client.py       one registry: requests, tries, errors
    tokens.py       who asks: basic authentication and tokens
    blobs.py        what a repository holds: manifests, blobs, tags; uploads
    downloads.py    a blob as a file that grows while it is read

A registry is a set of repositories; a repository holds blobs by their digests, manifests by digest or
tag, and nothing else. The whole protocol is a dozen requests. Libraries for it were looked at:
python-dxf insists on https wherever it authenticates, cannot resume a download and does not heed
Retry-After; oras is made for artifacts, and neither resumes nor mounts. So it is written here on top
of requests, which brings what is hard: proxies, certificates, connections that are kept.

It knows no images and no store. Source: OCI distribution-spec 1.1; the distribution project's
specification of tokens.
"""
