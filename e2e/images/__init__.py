"""Container images of the local cluster, made without Docker and without an image registry."""
