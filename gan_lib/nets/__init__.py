"""Generators and discriminators: plain modules with explicit arguments that know their own arithmetic only."""
