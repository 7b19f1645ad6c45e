"""Arithmetic on weights. Imported by `hub.worker` alone, in a process of its own."""
