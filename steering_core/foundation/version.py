"""The version of this package, which files and results carry."""

VERSION = "0.1.0"
