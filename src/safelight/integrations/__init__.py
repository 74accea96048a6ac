"""Integrations of Safelight into other libraries, by their own interfaces."""
