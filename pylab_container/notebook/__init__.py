"""The labs' face of the engine: what a notebook shows, checks and makes repeatable.

    lab.py        one lab: its engine, its directory, what it needs, what it leaves
    exercises.py  the exercises' checks
    source.py     the source of a function, class or method
    display.py    images, containers, histories, events and errors as text and HTML
    trees.py      directory trees, and what changed in one
    widgets.py    progress bars that a notebook's saved output does not depend on
    transfers.py  a pull or push, layer by layer
    magics.py     %labctr and %docker, and what %load_ext pylab_container sets up
    regenerate.py the command behind scripts/labs

It translates and decides nothing: whatever happens, happens in engine/.
"""
