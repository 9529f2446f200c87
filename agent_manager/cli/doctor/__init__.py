"""What is wrong with the running system, and what to do about it."""
