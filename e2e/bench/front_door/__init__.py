"""The front door's figures: what it adds, what it loses, how fast it follows, how large it is."""
