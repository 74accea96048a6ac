"""What is asked of the storybook: systems × suites × judge, and tables of the records."""
