"""The version of the package: pyproject.toml, the package's __init__ and all faces take it from here."""

__version__ = "0.2.0"
