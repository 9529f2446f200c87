"""What people ask of agents: read, carried out once, in order per agent, answered and recorded."""
