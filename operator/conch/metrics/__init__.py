"""PromQL texts and the parsing of answers; no input or output."""
