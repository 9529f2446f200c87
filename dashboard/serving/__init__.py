"""The web server around the page: guard, login, assets, and the one module that knows how Panel hangs in FastAPI."""
