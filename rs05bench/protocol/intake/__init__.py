"""Files of other people as they are: tables, keys, times and geometries, read one way everywhere or refused."""
