"""From raw file to checked record: readers, the catalogue of data sets, and samples of our own."""
