"""The command line: parse, call the library, print. One file a command, no logic."""
