"""``d3 serve --workers N``: a supervisor, N front processes and an engine process per device."""
