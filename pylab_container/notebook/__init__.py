"""The interface of the notebooks: displays, exercises, and reproducible labs.

    lab.py        one lab: its engine, its directory, its prerequisites and its reset
    exercises.py  the exercises' checks
    source.py     the source of a function, class or method
    display.py    images, containers, histories, events and errors as text and HTML
    trees.py      directory trees, and the differences between two
    widgets.py    progress bars that do not change a notebook's saved output
    transfers.py  a pull or push, layer by layer
    magics.py     %labctr, %docker and %load_ext pylab_container
    regenerate.py the command behind scripts/labs

It only translates between notebooks and the engine; the engine decides.
"""
