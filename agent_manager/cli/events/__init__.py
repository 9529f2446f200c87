"""Events published from a file, and watched live."""
