"""Placeholder until the hybrid lands."""
