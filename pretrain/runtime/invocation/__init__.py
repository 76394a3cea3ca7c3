"""The words of a command line: who is called by them, how they are read, and how the program is named to its user."""
