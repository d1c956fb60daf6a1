"""The data root on disk.

Each class owns one directory and draws its tree in its module's docstring.
"""
