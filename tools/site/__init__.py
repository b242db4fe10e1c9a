"""What the documentation site adds to MkDocs; see `mkdocs.yml`."""
