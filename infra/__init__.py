"""Installing, packaging and deploying: what surrounds the code, not the code."""
