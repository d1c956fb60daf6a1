"""What is on disk. One class owns one directory and draws its tree in its docstring."""
