"""Generated names of containers: a mood and a person of science or computing."""

from __future__ import annotations

import os
from collections.abc import Sequence

MOODS = (
    "amazing brave bright calm careful cheerful clever cool curious daring dazzled eager earnest elated "
    "fervent focused friendly funny gallant gentle gifted happy hopeful humble jolly keen kind lively "
    "loving lucid modest nice nimble optimistic patient peaceful practical proud quiet quirky relaxed "
    "serene sharp silly steady stoic sweet tender thirsty trusting upbeat vibrant vigilant vigorous wise "
    "witty wonderful youthful zealous zen"
).split()

PEOPLE = (
    "albattani archimedes aryabhata babbage banach bardeen bartik bell bohr boole brahmagupta cannon "
    "carson chandrasekhar curie darwin dijkstra einstein elion engelbart euclid euler faraday fermat "
    "fermi feynman franklin galileo galois gauss germain goldberg goodall hamilton hawking hellman hertz "
    "hoover hopper hypatia jemison jennings johnson joliot kalam kare keller kepler khayyam khorana kilby "
    "knuth lamarr leakey leavitt liskov lovelace mccarthy mcclintock meitner mendel mendeleev mirzakhani "
    "moore morse napier newton nightingale nobel noether pascal pasteur payne perlman pike planck "
    "poincare ptolemy raman ramanujan ride ritchie rubin sammet shannon shockley sinoussi snyder stallman "
    "swartz tesla thompson torvalds turing villani volhard wing wozniak wright wu yalow yonath"
).split()


def generate() -> str:
    """Return a name such as "upbeat_khayyam", which may be in use already."""
    return f"{_drawn(MOODS)}_{_drawn(PEOPLE)}"


def _drawn(words: Sequence[str]) -> str:
    # Four bytes for about a hundred words: no word is more probable than another by more than 1 in 40 million.
    return words[int.from_bytes(os.urandom(4), "big") % len(words)]
