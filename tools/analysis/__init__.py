"""Shared by the tools: starts trainings; reads, publishes, compares and draws their logs."""
