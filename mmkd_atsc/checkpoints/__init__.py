"""Finds, downloads, reads, converts and writes checkpoints."""
