"""What a student may give as an answer, and what a check makes of it.

A check asks for what it needs, as_image(sandbox, answer). An answer of another type is understood if its meaning is
certain: an image, its name or its id; a list of words or the words in one string. Otherwise Misunderstood names what
was given.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from pylab_container.engine.containers import Container
from pylab_container.errors import ImageNotFound, InvalidInput
from pylab_container.images.image import Image
from pylab_container.notebook.sandbox import Sandbox


class Misunderstood(Exception):
    """The answer has a type that the exercise cannot use; the message names both."""


def as_image(sandbox: Sandbox, answer: object) -> Image:
    """Return the image that an Image, a name or an id means. Raises Misunderstood."""
    if isinstance(answer, Image):
        return answer
    if isinstance(answer, Container):
        raise Misunderstood("that is a container; give the image or its name")
    if not isinstance(answer, str):
        raise Misunderstood(f"that is {kind_of(answer)}; give the image or its name")
    try:
        return sandbox.engine.images.get(answer)
    except (ImageNotFound, InvalidInput) as error:
        raise Misunderstood(f"there is no image {answer}") from error


def as_words(answer: object) -> list[str]:
    """Return the words of a command in exec form, a list of strings. Raises Misunderstood."""
    if isinstance(answer, str):
        raise Misunderstood(f"that is one string; exec form is a list of words: {shlex.split(answer)!r}")
    if not isinstance(answer, Sequence) or not all(isinstance(word, str) for word in answer):
        raise Misunderstood(f"that is {kind_of(answer)}; exec form is a list of words")
    if not answer:
        raise Misunderstood("that is an empty list; its first word is the program")
    return list(answer)


def as_number(answer: object) -> int:
    """Return a whole number, also from its digits. Raises Misunderstood; True is not a number here."""
    text = answer.strip() if isinstance(answer, str) else answer
    if isinstance(text, str) and text.isdecimal():
        return int(text)
    if isinstance(text, bool) or not isinstance(text, int):
        raise Misunderstood(f"that is {kind_of(answer)}; give a number")
    return text


def as_text(answer: object) -> str:
    """Return a text without the space around it. Raises Misunderstood."""
    if isinstance(answer, Path):
        return str(answer)
    if not isinstance(answer, str) or not answer.strip():
        raise Misunderstood(f"that is {kind_of(answer)}; give a text")
    return answer.strip()


def kind_of(answer: object) -> str:
    """Return what an answer is, in a student's words: "a list", "a number"."""
    kinds: tuple[tuple[type, str], ...] = (
        (bool, "True or False"), (int, "a number"), (float, "a number"), (bytes, "bytes"), (dict, "a dict"),
        (list, "a list"), (tuple, "a tuple"), (Image, "an image"), (Container, "a container"), (Path, "a path"),
    )  # fmt: skip
    if isinstance(answer, str):
        return "a text" if answer.strip() else "an empty text"
    return next((words for kind, words in kinds if isinstance(answer, kind)), f"an object of {type(answer).__name__}")
