"""Offline: granules and labels become chips and their index. Imports no torch."""
