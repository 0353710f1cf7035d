"""``python -m d3`` is ``d3``."""

from d3.entrypoints.cli import main

if __name__ == "__main__":
    main()
