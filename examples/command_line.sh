#!/bin/sh
# D3 from the command line.
cd "$(dirname "$0")" || exit

# A verdict for each image of a folder.
d3 detect images/

# Four views tell how far the score depends on the shuffle.
d3 detect --views 4 'images/generated-*'

# One JSON object a line, for other programs.
d3 detect --json images/camera-* | head -n 1

# Exit code 1 if anything was judged fake: a gate for uploads.
d3 detect --fail-on-fake images/ >/dev/null || echo "exit code $?"
