"""What may not be called: denials of models and providers."""
