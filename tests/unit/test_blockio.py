"""oci/blockio.py: limits of disks as people write them, as Docker keeps them, and as the runtime reads them."""

from __future__ import annotations

from typing import Any

import pytest

from pylab_container.errors import InvalidInput
from pylab_container.oci import blockio
from pylab_container.oci.blockio import Throttle


@pytest.mark.parametrize(
    ("text", "rate"), [("/dev/sda:1mb", 1 << 20), ("/dev/sda:1", 1), ("/dev/sda:2KB", 2048), ("/dev/sda:1g", 1 << 30)]
)
def test_bytes_have_a_unit(text: str, rate: int) -> None:
    assert blockio.parse_rate(text, unit=True) == {"Path": "/dev/sda", "Rate": rate}


def test_operations_have_none() -> None:
    assert blockio.parse_rate("/dev/sda:100", unit=False)["Rate"] == 100
    with pytest.raises(InvalidInput, match="invalid rate for device: /dev/sda:1kb"):
        blockio.parse_rate("/dev/sda:1kb", unit=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/dev/sda", "bad format: /dev/sda"),
        ("sda:1", "bad format for device path: sda:1"),
        ("/dev/sda:-1", "invalid rate for device"),
        ("/dev/sda:", "invalid rate for device"),
        ("/dev/sda:1tb", "can be kb, mb, or gb"),
    ],
)
def test_what_is_no_limit_is_refused_in_dockers_words(text: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        blockio.parse_rate(text, unit=True)


@pytest.mark.parametrize(
    "document", [{}, {"Path": "/etc/passwd", "Rate": 1}, {"Path": "/dev/sda", "Rate": -1}], ids=str
)
def test_a_document_that_names_no_disk_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="invalid limit of a disk"):
        blockio.rates([document])


def test_the_runtime_gets_numbers_in_the_specifications_lists() -> None:
    found = blockio.resources([Throttle("throttleReadBpsDevice", 8, 0, 10), Throttle("weightDevice", 8, 16, 20)])
    assert found == {
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 10}],
        "weightDevice": [{"major": 8, "minor": 16, "weight": 20}],
    }
