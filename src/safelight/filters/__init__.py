"""Filters report what they see, as findings; the policy decides what that means."""
