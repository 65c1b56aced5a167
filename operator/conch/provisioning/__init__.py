"""Pure rendering: what a service is, as the manifests of its children. No input or output."""
