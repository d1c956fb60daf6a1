"""Compatibility with Docker's commands and documents: options, filters, templates, events. Periphery."""
