"""The composition root: the NATS server, the topology, and every service as a supervised child process."""
