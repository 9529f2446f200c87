"""``agentops content``: what becomes of prompts and completions, by tenant."""
