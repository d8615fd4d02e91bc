"""Where samples go: encoded by medium, written as files, tables or datasets."""
