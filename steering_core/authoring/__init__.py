"""Authoring: for those who write concepts. Drafts, scaffolds and files of concepts, their lint, and their results."""
