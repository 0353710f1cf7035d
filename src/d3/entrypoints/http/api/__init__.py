"""The REST API: a controller for each path prefix, and the schemas they answer with."""
