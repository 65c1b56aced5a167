"""End-to-end tests, benchmarks and the local cluster that they run on."""
