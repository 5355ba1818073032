"""Commands that this app adds: one file each."""
