"""The hub over HTTP: search, plans, downloads, aliases, and what is loaded. For administrators."""
