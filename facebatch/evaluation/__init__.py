"""How good a detector is: annotated photographs, the rules by which they are counted, and what comes out."""
