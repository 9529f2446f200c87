"""Finding agents: folders with an ``agent.yaml``, read into records; what is wrong with one is told by file and field."""
