"""The command line: commands, values of options, and the tables that they print."""
