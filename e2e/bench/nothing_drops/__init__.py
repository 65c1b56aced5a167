"""What fails while replicas and revisions move: nothing is to."""
