"""The servers that a run asks, and the connections to them."""
