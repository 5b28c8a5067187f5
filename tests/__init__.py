"""A package, so that another distribution that ships a top-level `tests` cannot take its place."""
