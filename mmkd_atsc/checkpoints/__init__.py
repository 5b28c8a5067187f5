"""The one way in for weights: safe, strict, from files, addresses and the package itself."""
