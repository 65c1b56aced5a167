"""Where downloads come from: one module a protocol, imported only where a source needs it."""
