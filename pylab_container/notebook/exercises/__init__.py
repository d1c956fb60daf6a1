"""The labs' exercises: criteria that are observed on a running thing, and hints.

    lab.check("04.2", ["nginx", "-g", "daemon off;"])     looks up EXERCISES["04.2"]

    exercise 04.2   3 of 4
      ✔ the answer is a list of words
      ✔ process 1 is nginx                (its name in /proc/1/comm is nginx)
      ✔ the page is served                (http://…/ answers 200)
      ✘ docker stop takes at most 2 s     (10.1 s)

A check starts what the answer describes in a sandbox and observes it; it never compares texts. It makes what it needs,
so it works after a clean-up and in a restarted kernel, and it changes nothing that the student has made.

    numbered.py   the exercises of the labs that have not got this form yet
    exercise.py   an exercise, its criteria and its result
    answers.py    what a student may give as an answer, and what a check makes of it
    lab04.py …    one module a lab: its table of exercises and their checks
"""

from __future__ import annotations

from pylab_container.errors import InvalidInput
from pylab_container.notebook.exercises import lab02, lab03, lab04
from pylab_container.notebook.exercises.exercise import Exercise

EXERCISES = {exercise.key: exercise for exercise in (*lab02.EXERCISES, *lab03.EXERCISES, *lab04.EXERCISES)}


def find(lab: str, key: str) -> Exercise:
    """Return an exercise of a lab by its key. Raises InvalidInput, with the lab's keys in the hint."""
    own = [known for known in EXERCISES if known.startswith(f"{lab}.")]
    if key not in own:
        hint = f"they are {', '.join(own)}" if own else "lab.check(1, answer, …)"
        raise InvalidInput(f"lab {lab} has no exercise {key}", hint=hint)
    return EXERCISES[key]
