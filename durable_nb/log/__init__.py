"""What happened: the SQLite log. Facts are appended, current-state rows follow from them; one writer a process."""
