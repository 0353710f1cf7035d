#!/bin/sh
# D3 from the command line.
cd "$(dirname "$0")" || exit

# A verdict for each image in a folder.
d3 detect images/

# Four views show how much the score depends on the shuffle.
d3 detect --views 4 'images/generated-*'

# One JSON object per line, for other programs.
d3 detect --json images/camera-* | head -n 1

# Exit code 1 if any image is fake, for example to check uploads.
d3 detect --fail-on-fake images/ >/dev/null || echo "exit code $?"
