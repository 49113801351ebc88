"""Where reports go to beside the files."""
