"""Commands that the signaling app adds."""
