"""Pure decisions of (fleet, state, now): scaling, placement, shares, rollout."""
