"""Finding models at the hubs by words."""
