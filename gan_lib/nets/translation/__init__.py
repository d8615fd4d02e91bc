"""Nets of translation: from images or label maps to images."""
