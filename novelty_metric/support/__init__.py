"""Files, downloads, cores, versions, progress and statistics: nothing about crystals."""
