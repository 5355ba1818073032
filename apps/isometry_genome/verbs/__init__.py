"""Commands that the genome app adds."""
