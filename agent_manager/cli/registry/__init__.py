"""What agents are, their versions and the history of both, as a person asks for them."""
