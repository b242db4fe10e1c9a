"""What developers run and users never need. Not in the wheel."""
