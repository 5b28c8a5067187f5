"""Shared by the tools: starts trainings; reads, publishes, compares and draws their logs."""
import mmkd_atsc  # noqa: F401  makes mmrazor importable
