"""Compatibility with Docker: options, filters, templates, events. Periphery."""
