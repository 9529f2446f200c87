"""The benchmark's parts: each starts what it needs, measures, and ends it; none relies on another having run."""
