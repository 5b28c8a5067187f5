"""Finds, downloads, reads and writes checkpoints."""
