"""Two reports side by side, many in pairs, and the spread of several runs."""
