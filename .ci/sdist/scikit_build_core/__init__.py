"""Stands in for the build backend that imgui-bundle names, see build.py."""
