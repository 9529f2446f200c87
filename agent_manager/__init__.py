"""The agent manager: discovers agents, keeps them as desired, heals them, carries out commands; and the CLI ``agentops``."""
