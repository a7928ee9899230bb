"""Studies: many runs with one question; a folder that can be killed and gone on with."""
