"""The distribution protocol: pull images from a registry and push images to it.

    settings.py     configuration: mirrors, insecure registries, timeouts and retries
    connections.py  connection pools and certificates
    client.py       one registry: requests, retries, errors
    answers.py      values of untrusted answers: addresses, numbers, documents
    challenge.py    the header WWW-Authenticate
    tokens.py       the header Authorization: basic authentication and tokens
    blobs.py        one repository: manifests, blobs, tags, uploads
    downloads.py    a blob as a file that grows while it is read

A registry is a set of repositories. A repository holds blobs by their digests, and manifests by digest or tag. The
whole protocol is a dozen requests, and these modules know neither images nor a store.

The libraries for it do not suffice: python-dxf authenticates only over https, cannot resume a download and ignores
Retry-After; oras neither resumes downloads nor mounts blobs. So the protocol is implemented here on top of requests,
which provides proxies, certificates and persistent connections.

Sources: OCI distribution-spec 1.1; the distribution project's token specification.
"""
