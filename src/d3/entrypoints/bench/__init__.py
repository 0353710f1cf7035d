"""What a machine gives: the parts of ``d3 bench``, which ``benchmarks/`` uses too."""
