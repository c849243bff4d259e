"""Where workers come from and how to talk to them."""
