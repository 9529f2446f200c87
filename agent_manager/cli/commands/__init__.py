"""What can be typed: options, help, examples. The work is imported when a command runs."""
