"""One module for each step, in the order of their numbers; a step that was released stays."""
