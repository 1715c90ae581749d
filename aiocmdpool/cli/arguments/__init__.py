"""From words to options and command lines."""
