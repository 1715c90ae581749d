"""From bytes of commands to the terminal, in order."""
