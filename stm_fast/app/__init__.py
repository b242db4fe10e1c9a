"""The page in the browser: point at objects, follow them, correct them, export them. Needs the extra `web`."""
