"""``d3 serve --workers N``: one engine process per device and N processes that answer HTTP."""
