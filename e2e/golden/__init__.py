"""What other autoscalers decide, recorded from their own code: `make golden`."""
