"""What every service shares: logs, instruments, the health door, signals. Imports nothing else of the project."""
