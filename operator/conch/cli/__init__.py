"""The commands conch and kubectl-conch."""
