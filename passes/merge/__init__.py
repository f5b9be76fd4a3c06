"""Layers and units that are one."""
