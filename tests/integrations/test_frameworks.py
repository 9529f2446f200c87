"""What every instrumentation tells of the same calls comes to the same bill."""
