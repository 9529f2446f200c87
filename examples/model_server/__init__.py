"""A local stand-in for a model API: OpenAI's chat completions protocol, extractive answers, honest token counts."""
