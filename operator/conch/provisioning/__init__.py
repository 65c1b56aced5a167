"""Pure rendering of specs to manifests, one file a kind."""
