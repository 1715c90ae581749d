"""Converts arguments of the command line into options and command lines."""
