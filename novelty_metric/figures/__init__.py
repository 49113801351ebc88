"""Pictures of reports: the one room that draws."""
